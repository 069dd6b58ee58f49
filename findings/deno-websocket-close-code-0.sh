#!/usr/bin/env bash
# Deno's WebSocket: a connection that ends without a close frame has close code 0.
#
# Expected: code 1006, as browsers, Node and Bun report it and as the WebSocket standard says.
# Seen with Deno 2.9.6 (npm @deno/linux-x64-glibc): code 0 after a failed attempt, and after an open connection that was cut. Code that
# compares with 1006, or takes every code under 4000 that is "truthy" for a failure, does not notice. Real close frames keep their codes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent @deno/linux-x64-glibc@2.9.6 ws@8.23.0

cat >server.mjs <<'JS'
import { WebSocketServer } from 'ws';
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', verifyClient: ({ req }, done) => done(req.url !== '/503', 503) });
server.on('connection', (socket, request) => {
  if (request.url === '/cut') setTimeout(() => socket.terminate(), 100);
  if (request.url === '/4200') setTimeout(() => socket.close(4200, 'bye'), 100);
});
server.on('listening', () => console.log(server.address().port));
JS
cat >probe.mjs <<'JS'
console.log(`Deno ${Deno.version.deno}`);
for (const path of ['503', 'cut', '4200']) {
  const socket = new WebSocket(`ws://127.0.0.1:${Deno.args[0]}/${path}`);
  socket.onerror = () => {};
  const { code, wasClean } = await new Promise((resolve) => (socket.onclose = resolve));
  console.log(`${path}: close ${code}, clean ${wasClean}`);
}
JS

coproc SERVER { exec node server.mjs; }
trap 'kill "$SERVER_PID" 2>/dev/null || true; rm -rf "$folder"' EXIT
read -r port <&"${SERVER[0]}"
seen=$(NO_COLOR=1 node_modules/@deno/linux-x64-glibc/deno run --quiet --allow-net probe.mjs "$port")
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
Deno 2.9.6
503: close 0, clean false
cut: close 0, clean false
4200: close 4200, clean true
TEXT

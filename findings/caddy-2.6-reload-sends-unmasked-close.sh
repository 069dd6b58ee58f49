#!/usr/bin/env bash
# Caddy 2.6: a reload ends every WebSocket, and the close frame that it sends to the backend is not masked.
#
# Expected: connections outlive the reload, as with nginx, HAProxy, Apache and Varnish; or both sides get a close frame that RFC 6455
# allows (frames towards a server are masked).
# Seen with Caddy 2.6.2 (Debian 12): clients get 1001 at once. The backend gets a close frame without a mask, so that a correct
# WebSocket server reports a protocol error for every client: an operator who looks for the client at fault looks in the wrong place.
# Caddy 2.11.4 masks it, and still ends every WebSocket at once unless `stream_close_delay` is set.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get download -q caddy=2.6.2-5 >/dev/null 2>&1
dpkg -x caddy_*.deb .
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent ws@8.23.0
caddy() { HOME=$folder ./usr/bin/caddy "$@"; }

cat >probe.mjs <<'JS'
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';

const freePort = async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
};
const backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
await once(backend, 'listening');
const errors = [];
backend.on('connection', (socket) => socket.on('error', ({ code }) => errors.push(code)));
const [port, admin] = [await freePort(), await freePort()];
const configure = (version) =>
  writeFileSync('Caddyfile', `{
  admin 127.0.0.1:${admin}
  auto_https off
}
http://127.0.0.1:${port} {
  header x-version ${version}
  reverse_proxy 127.0.0.1:${backend.address().port}
}
`);
configure(1);
const env = { ...process.env, HOME: process.cwd() };
const proxy = spawn('./usr/bin/caddy', ['run', '--config', 'Caddyfile'], { env, stdio: 'ignore' });
process.on('exit', () => proxy.kill('SIGKILL'));
let client;
for (;;) {
  client = new WebSocket(`ws://127.0.0.1:${port}/`);
  client.on('error', () => {});
  const opened = await Promise.race([once(client, 'open').then(() => true, () => false), once(client, 'close').then(() => false)]);
  if (opened) break;
  await delay(100);
}
const closed = once(client, 'close');
configure(2);
execFileSync('./usr/bin/caddy', ['reload', '--config', 'Caddyfile', '--address', `127.0.0.1:${admin}`], { env, stdio: 'ignore' });
const [code] = await closed;
await delay(500);
console.log(`client: close ${code}`);
console.log(`backend: ${errors.join() || 'no error'}`);
process.exit();
JS

caddy version
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
client: close 1001
backend: WS_ERR_EXPECTED_MASK
TEXT

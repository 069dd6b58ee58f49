#!/usr/bin/env bash
# npm @fastify/http-proxy: when the backend of a WebSocket is killed, the client gets a close frame with 4006, and pusher-js gives up.
#
# Expected: the client's connection is lost too, which is 1006 to it, and clients of Pusher's protocol connect again.
# Seen with @fastify/http-proxy 11.6.3: it adds 3000 to codes that no frame may carry. Codes from 4000 to 4099 tell clients of Pusher's
# protocol to stay away, so pusher-js 8.6.0 is `disconnected` for good. The backend gets 4006 when a client is lost. http-proxy-3 2.0.1
# ends the other connection, and pusher-js is back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent \
  @fastify/http-proxy@11.6.3 fastify@5.12.8 http-proxy-3@2.0.1 pusher-js@8.6.0 ws@8.23.0

cat >probe.mjs <<'JS'
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import fastifyProxy from '@fastify/http-proxy';
import fastify from 'fastify';
import { createProxyServer } from 'http-proxy-3';
import Pusher from 'pusher-js';
import { WebSocket, WebSocketServer } from 'ws';

const backend = new WebSocketServer({ port: 0, host: '127.0.0.1' });
await once(backend, 'listening');
let connections = 0;
backend.on('connection', (socket) => {
  connections += 1;
  const data = JSON.stringify({ socket_id: '1.1', activity_timeout: 120 });
  socket.send(JSON.stringify({ event: 'pusher:connection_established', data }));
  // Only the first is lost.
  if (connections === 1) setTimeout(() => socket.terminate(), 500);
});
const target = `http://127.0.0.1:${backend.address().port}`;
async function startFastify() {
  const server = fastify();
  server.register(fastifyProxy, { upstream: target, websocket: true });
  await server.listen({ host: '127.0.0.1', port: 0 });
  return server.server.address().port;
}
async function startHttpProxy3() {
  const proxy = createProxyServer({ target, ws: true });
  proxy.on('error', () => {});
  const server = createServer().on('upgrade', (request, socket, head) => proxy.ws(request, socket, head));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
}
for (const [name, start] of Object.entries({ '@fastify/http-proxy': startFastify, 'http-proxy-3': startHttpProxy3 })) {
  const port = await start();
  connections = 0;
  const [code] = await once(new WebSocket(`ws://127.0.0.1:${port}/`).on('error', () => {}), 'close');
  connections = 0;
  const pusher = new Pusher('key', { cluster: 'x', wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'] });
  await delay(5000);
  console.log(`${name}: close ${code}, pusher-js is ${pusher.connection.state} after ${connections} connections`);
  pusher.disconnect();
}
process.exit();
JS
seen=$(timeout 60 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
@fastify/http-proxy: close 4006, pusher-js is disconnected after 1 connections
http-proxy-3: close 1006, pusher-js is connected after 2 connections
TEXT

#!/usr/bin/env bash
# Proxies in Node, Vite's among them: when the backend of a stream is killed, the client isn't told, and waits for good.
#
# Expected: the client's connection is cut as well, so that its EventSource comes back.
# Seen in Node 20.20 with Vite 8.3.8 (`server.proxy`), http-proxy 1.18.1, http-proxy-3 2.0.1, http-proxy-middleware 3.0.11 and
# express-http-proxy 2.1.2: the answer neither ends nor fails. They `pipe` it, and `pipe` doesn't pass on that a source broke off. A
# backend that ends its stream itself is passed on. http-proxy-middleware 4.2.1 and @fastify/http-proxy 11.6.3 cut the client.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent vite@8.3.8 http-proxy@1.18.1 http-proxy-3@2.0.1 \
  http-proxy-middleware@4.2.1 http-proxy-middleware-3@npm:http-proxy-middleware@3.0.11 \
  express-http-proxy@2.1.2 express@5.3.0 @fastify/http-proxy@11.6.3 fastify@5.12.8

cat >probe.mjs <<'JS'
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import fastifyProxy from '@fastify/http-proxy';
import express from 'express';
import expressProxy from 'express-http-proxy';
import fastify from 'fastify';
import httpProxy from 'http-proxy';
import * as httpProxy3 from 'http-proxy-3';
import * as middleware from 'http-proxy-middleware';
import * as middleware3 from 'http-proxy-middleware-3';
import { createServer } from 'vite';

const listen = async (server) => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
};
// Half a second after its first event, /killed breaks off and /ended ends.
const backend = http.createServer(({ url, socket }, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write('data: hello\n\n');
  setTimeout(() => (url === '/killed' ? socket.destroy() : response.end()), 500);
});
const target = `http://127.0.0.1:${await listen(backend)}`;
const proxied = ({ createProxyServer }) => {
  const proxy = createProxyServer({ target });
  proxy.on('error', () => {});
  return listen(http.createServer((request, response) => proxy.web(request, response)));
};
const proxiedByMiddleware = ({ createProxyMiddleware }) => {
  const proxy = createProxyMiddleware({ target });
  return listen(http.createServer((request, response) => proxy(request, response, () => response.end())));
};
const proxies = {
  async vite() {
    const server = await createServer({ configFile: false, logLevel: 'silent', server: { host: '127.0.0.1', port: 0, proxy: { '/': target } } });
    await server.listen();
    return server.httpServer.address().port;
  },
  'http-proxy': () => proxied(httpProxy),
  'http-proxy-3': () => proxied(httpProxy3),
  'http-proxy-middleware 3': () => proxiedByMiddleware(middleware3),
  'express-http-proxy': () => listen(http.createServer(express().use(expressProxy(target)))),
  'http-proxy-middleware 4': () => proxiedByMiddleware(middleware),
  async '@fastify/http-proxy'() {
    const server = fastify();
    server.register(fastifyProxy, { upstream: target });
    await server.listen({ host: '127.0.0.1', port: 0 });
    return server.server.address().port;
  },
};
async function seenByClient(port, path) {
  const request = http.get({ host: '127.0.0.1', port, path, agent: false });
  request.on('error', () => {});
  const [response] = await once(request, 'response');
  response.resume();
  const end = new Promise((resolve) => response.on('end', () => resolve('end')).on('error', () => resolve('cut')));
  return Promise.race([end, delay(6000, 'nothing')]).finally(() => request.destroy());
}
for (const [name, start] of Object.entries(proxies)) {
  const port = await start();
  console.log(`${name}: killed: ${await seenByClient(port, '/killed')}, ended: ${await seenByClient(port, '/ended')}`);
}
process.exit();
JS
node --version
seen=$(timeout 180 node --no-deprecation probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
vite: killed: nothing, ended: end
http-proxy: killed: nothing, ended: end
http-proxy-3: killed: nothing, ended: end
http-proxy-middleware 3: killed: nothing, ended: end
express-http-proxy: killed: nothing, ended: end
http-proxy-middleware 4: killed: cut, ended: end
@fastify/http-proxy: killed: cut, ended: end
TEXT

#!/usr/bin/env bash
# npm http-proxy and webpack-dev-server: when a client leaves a stream, the backend's connection stays open for good.
#
# Expected: the proxy closes its connection to the backend, since nobody reads the answer any more.
# Seen with http-proxy 1.18.1 and webpack-dev-server 5.2.7 in Node 20.20: ten seconds later the backend still writes into an open
# connection, and nothing of it fails. Each page load adds one, so presence shows users who have left and a limit of connections is
# reached. http-proxy waits for the request's event `aborted`, which Node emits only while a request is still being sent.
# http-proxy-3 2.0.1 closes at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent http-proxy@1.18.1 http-proxy-3@2.0.1 webpack-dev-server@5.2.7 webpack@5.113.0

cat >probe.mjs <<'JS'
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import httpProxy from 'http-proxy';
import * as httpProxy3 from 'http-proxy-3';
import webpack from 'webpack';
import WebpackDevServer from 'webpack-dev-server';

const listen = async (server) => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
};
let open = 0;
const backend = http.createServer((_, response) => {
  open += 1;
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write('data: hello\n\n');
  const timer = setInterval(() => response.write('data: more\n\n'), 500);
  response.on('close', () => {
    clearInterval(timer);
    open -= 1;
  });
});
const target = `http://127.0.0.1:${await listen(backend)}`;
const proxied = ({ createProxyServer }) => {
  const proxy = createProxyServer({ target });
  proxy.on('error', () => {});
  return listen(http.createServer((request, response) => proxy.web(request, response)));
};
async function devServer() {
  mkdirSync('site/src', { recursive: true });
  writeFileSync('site/src/index.js', '');
  const compiler = webpack({ mode: 'development', context: `${process.cwd()}/site`, infrastructureLogging: { level: 'none' }, stats: 'none' });
  const server = new WebpackDevServer({ host: '127.0.0.1', port: 0, setupExitSignals: false, proxy: [{ context: ['/events'], target }] }, compiler);
  await server.start();
  return server.server.address().port;
}
const proxies = { 'http-proxy': proxied(httpProxy), 'webpack-dev-server': devServer(), 'http-proxy-3': proxied(httpProxy3) };
for (const [name, started] of Object.entries(proxies)) {
  const before = open;
  const request = http.get({ host: '127.0.0.1', port: await started, path: '/events', agent: false });
  request.on('error', () => {});
  const [response] = await once(request, 'response');
  response.on('error', () => {});
  await once(response, 'data');
  request.destroy();
  for (let waited = 0; waited < 100 && open > before; waited += 1) await delay(100);
  console.log(`${name}: ${open > before ? 'open 10 s after the client left' : 'closed'}`);
}
process.exit();
JS
node --version
seen=$(timeout 120 node --no-deprecation probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
http-proxy: open 10 s after the client left
webpack-dev-server: open 10 s after the client left
http-proxy-3: closed
TEXT

#!/usr/bin/env bash
# Chromium: a WebSocket of a page that the user has left stays open and answers PINGs, but what it gets is lost. An EventSource keeps it.
#
# Expected: the WebSocket is closed when the user follows a link to another site, or it is kept for the way back.
# Seen with Chromium 156: the page goes into the back/forward cache, and its WebSocket stays open at the server, for ten minutes. PINGs are
# answered outside the page, so presence shows a user who isn't there, and no heartbeat helps. When the user comes back, the messages of
# that time aren't handed out: the page gets `close` with 1006, the server a close frame with 1001. A page that closes its WebSocket in
# `pagehide` and opens one in `pageshow` has neither.
# An EventSource stays open for a minute, and hands out all of it if the user comes back in that time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
command -v chromium >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } >/dev/null 2>&1
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent puppeteer-core@24.43.1 ws@8.23.0

cat >probe.mjs <<'JS'
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import puppeteer from 'puppeteer-core';
import { WebSocketServer } from 'ws';

const PAGE = `<!doctype html><script>
  globalThis.seen = [];
  const source = location.search === '?WebSocket' ? new WebSocket('ws://' + location.host) : new EventSource('/events');
  source.onmessage = ({ data }) => seen.push(data);
  source.onclose = ({ code }) => seen.push('close ' + code);
  onpageshow = ({ persisted }) => persisted && seen.push('back');
</script>`;
let send;
let server;
const site = createServer(({ url }, response) => {
  if (url !== '/events') return response.setHeader('content-type', 'text/html').end(url === '/elsewhere' ? 'elsewhere' : PAGE);
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  send = (text) => response.write(`data: ${text}\n\n`);
  response.on('close', () => server.push('closed'));
});
new WebSocketServer({ server: site }).on('connection', (socket) => {
  send = (text) => {
    socket.ping();
    socket.send(text);
  };
  socket.on('pong', () => server.push('pong'));
  socket.on('close', (code) => server.push(`closed ${code}`));
});
site.listen(0, '127.0.0.1');
await once(site, 'listening');
const { port } = site.address();
const browser = await puppeteer.launch({
  executablePath: '/usr/bin/chromium',
  ignoreDefaultArgs: true,
  args: ['--headless=new', '--no-sandbox', '--disable-background-networking', '--remote-debugging-port=0', `--user-data-dir=${process.cwd()}/user`],
});
console.error(await browser.version());
for (const kind of ['WebSocket', 'EventSource']) {
  server = [];
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${port}/?${kind}`);
  await delay(1000);
  send('here');
  await delay(1000);
  await page.goto(`http://localhost:${port}/elsewhere`);
  for (let second = 0; second < 10; second += 1) {
    await delay(1000);
    send(`away ${second}`);
  }
  await delay(1000);
  console.log(`${kind}: server after 10 s: ${[...new Set(server)].join(', ') || 'open'}`);
  await page.evaluate(() => history.back()).catch(() => {});
  await delay(3000);
  const seen = await page.evaluate(() => globalThis.seen);
  const away = seen.filter((text) => text.startsWith('away')).length;
  console.log(`${kind}: page: ${seen.filter((text) => !text.startsWith('away')).join(', ')}; of 10 messages it has ${away}`);
}
await browser.close();
process.exit();
JS
seen=$(timeout 120 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
WebSocket: server after 10 s: pong
WebSocket: page: here, back, close 1006; of 10 messages it has 0
EventSource: server after 10 s: open
EventSource: page: here, back; of 10 messages it has 10
TEXT

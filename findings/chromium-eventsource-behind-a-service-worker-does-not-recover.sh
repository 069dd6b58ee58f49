#!/usr/bin/env bash
# Chromium: an EventSource behind a service worker ends for good when its connection breaks off, and returns without its last id.
#
# Expected: a worker that answers each request with `fetch(event.request)` changes nothing. Without a worker the EventSource comes back
# after a lost connection and after a stream that ended, and sends Last-Event-ID.
# Seen with Chromium 156: after a lost connection its state is CLOSED. After a stream that ended it comes back without the header, so
# what was sent meanwhile is lost. Behind a worker that leaves streams alone
# (`if (event.request.headers.get('accept') === 'text/event-stream') return;`) neither happens.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
command -v chromium >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } >/dev/null 2>&1
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent puppeteer-core@24.43.1

cat >probe.mjs <<'JS'
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import puppeteer from 'puppeteer-core';

const LEAVE_STREAMS = `if (event.request.headers.get('accept') === 'text/event-stream') return;`;
const workers = {
  'no worker': undefined,
  'worker that passes all on': `onfetch = (event) => event.respondWith(fetch(event.request));`,
  'worker that leaves streams alone': `onfetch = (event) => { ${LEAVE_STREAMS} event.respondWith(fetch(event.request)); };`,
};
const START = `oninstall = () => skipWaiting(); onactivate = (event) => event.waitUntil(clients.claim());`;
const REGISTER = `<script>
  const controlled = new Promise((resolve) => (navigator.serviceWorker.oncontrollerchange = resolve));
  navigator.serviceWorker.register('/worker.js');
</script>`;
let worker;
let ids;
const server = createServer(({ url, headers, socket }, response) => {
  const stream = /^\/events\/(\w+)/.exec(url);
  if (url === '/worker.js') return response.setHeader('content-type', 'text/javascript').end(START + worker);
  if (!stream) return response.setHeader('content-type', 'text/html').end(url === '/register' ? REGISTER : '');
  ids.push(headers['last-event-id'] ?? 'none');
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write('retry: 200\nid: 7\ndata: hello\n\n');
  if (ids.length === 1) setTimeout(() => (stream[1] === 'lost' ? socket.destroy() : response.end()), 1000);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const base = `http://127.0.0.1:${server.address().port}`;
const browser = await puppeteer.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-background-networking'] });
console.error(await browser.version());
for (const [name, code] of Object.entries(workers)) {
  const context = await browser.createBrowserContext();
  if (code) {
    worker = code;
    const page = await context.newPage();
    await page.goto(`${base}/register`);
    await page.evaluate(() => controlled);
  }
  for (const end of ['ended', 'lost']) {
    ids = [];
    const page = await context.newPage();
    await page.goto(`${base}/`);
    await page.evaluate((path) => (globalThis.source = new EventSource(path)), `/events/${end}`);
    await delay(4000);
    const closed = await page.evaluate(() => source.readyState === EventSource.CLOSED);
    console.log(`${name}, ${end}: ${closed ? 'closed' : 'open'}, ids: ${ids.join(', ')}`);
    await page.close();
  }
  await context.close();
}
await browser.close();
process.exit();
JS
seen=$(timeout 120 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
no worker, ended: open, ids: none, 7
no worker, lost: open, ids: none, 7
worker that passes all on, ended: open, ids: none, none
worker that passes all on, lost: closed, ids: none
worker that leaves streams alone, ended: open, ids: none, 7
worker that leaves streams alone, lost: open, ids: none, 7
TEXT

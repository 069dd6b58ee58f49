#!/usr/bin/env bash
# htmx 4: of a stream it swaps messages without a name, but not those whose name is `message`.
#
# Expected: `event: message` is what a message without `event:` is, and for an EventSource there is no difference. Servers that name
# every event can name theirs so.
# Seen with htmx.org 4.0.1 and its extension hx-sse in Chromium 156: what has no `event:` is swapped; `event: message` becomes a DOM
# event `message` with the data, and nothing is swapped.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
command -v chromium >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } >/dev/null 2>&1
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent puppeteer-core@24.43.1 htmx.org@4.0.1

cat >probe.mjs <<'JS'
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import puppeteer from 'puppeteer-core';

const script = (name) => `<script>${readFileSync(`node_modules/htmx.org/dist/${name}`, 'utf8').replaceAll('</script', '<\\/script')}</script>`;
const PAGE = `<!doctype html><body>${script('htmx.js')}${script('ext/hx-sse.js')}
<script>
  globalThis.heard = [];
  globalThis.native = [];
  document.addEventListener('message', ({ detail }) => heard.push(detail.data));
  new EventSource('/events').onmessage = ({ data }) => native.push(data);
</script>
<p id="swapped" hx-sse:connect="/events" hx-swap="beforeend"></p>`;
const server = createServer(({ url }, response) => {
  if (url !== '/events') return response.setHeader('content-type', 'text/html').end(PAGE);
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write('data: without\n\nevent: message\ndata: message\n\n');
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const browser = await puppeteer.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-background-networking'] });
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await delay(2000);
const { swapped, heard, native } = await page.evaluate(() => ({ swapped: document.querySelector('#swapped').textContent, heard, native }));
console.log(`EventSource: ${native.join(', ')}`);
console.log(`htmx: swapped: ${swapped}; DOM event: ${heard.join(', ')}`);
await browser.close();
process.exit();
JS
seen=$(timeout 60 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
EventSource: without, message
htmx: swapped: without; DOM event: message
TEXT

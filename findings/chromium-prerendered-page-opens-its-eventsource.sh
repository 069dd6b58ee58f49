#!/usr/bin/env bash
# Chromium: a page that is only prerendered opens its EventSource and gets events; its WebSocket waits until the page is shown.
#
# Expected: both wait, or neither, since both connect a page to a server for as long as it is there.
# Seen with Chromium 156 and speculation rules: the EventSource of a page that the user hasn't opened is connected and handles events. If
# the user never opens it, it stays until the page with the rules is left. A presence that counts streams shows users on pages that they
# don't see. The WebSocket is in the state CONNECTING, and opens once the user follows the link.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
command -v chromium >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } >/dev/null 2>&1
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent puppeteer-core@24.43.1 ws@8.23.0

cat >probe.mjs <<'JS'
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import puppeteer from 'puppeteer-core';
import { WebSocketServer } from 'ws';

const FIRST = `<script type="speculationrules">{"prerender":[{"urls":["/next"],"eagerness":"immediate"}]}</script><a href="/next">next</a>`;
const NEXT = `<script>
  new WebSocket('ws://' + location.host);
  new EventSource('/events').onmessage = ({ data }) => fetch('/handled?' + data + (document.prerendering ? ' unseen' : ''));
</script>`;
const opened = [];
const handled = [];
const server = createServer(({ url }, response) => {
  if (url === '/events') {
    opened.push('EventSource');
    return response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: event\n\n');
  }
  if (url.startsWith('/handled')) handled.push(decodeURIComponent(url.split('?')[1]));
  return response.setHeader('content-type', 'text/html').end(url === '/next' ? NEXT : FIRST);
});
new WebSocketServer({ server }).on('connection', () => opened.push('WebSocket'));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const browser = await puppeteer.launch({
  executablePath: '/usr/bin/chromium',
  ignoreDefaultArgs: true,
  args: ['--headless=new', '--no-sandbox', '--disable-background-networking', '--remote-debugging-port=0', `--user-data-dir=${process.cwd()}/user`],
});
console.error(await browser.version());
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await delay(5000);
console.log(`prerendered: ${opened.join(', ')}; handled: ${handled.join(', ')}`);
// The page that is shown then is another one, so this may never be answered.
page.evaluate(() => document.querySelector('a').click()).catch(() => {});
await delay(3000);
console.log(`shown: ${opened.join(', ')}`);
browser.process().kill();
process.exit();
JS
seen=$(timeout 120 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
prerendered: EventSource; handled: event unseen
shown: EventSource, WebSocket
TEXT

#!/usr/bin/env bash
# Browsers hold new WebSockets back after failed ones to the same host and port, each in its own way. `fetch` is not held back.
#
# Expected: `new WebSocket(url)` tries at once; a client that tries each second is back a second after its server.
# Seen with a page that tries again one second after each failure, for a minute, on a port that refuses:
# - Firefox 153.8 ESR: the first five failures take no time; then each attempt waits 1.5 times as long as the one before, inside the
#   browser and in the state CONNECTING: 0.3 s, 0.9 s, 1.8 s, 3.2 s, 6 s, 9 s, 14 s, 21 s. After an outage of a minute an attempt can
#   take 20 s although the server has been back all that time.
# - Chromium 156: about ten to twenty failures take no time; after that delays grow up to 1 to 5 s for each attempt.
# So fast retries make the return slower, and a fallback over HTTP overtakes the WebSocket.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
command -v firefox-esr chromium >/dev/null ||
  { apt-get update -q && apt-get install -q -y --no-install-recommends firefox-esr chromium; } >/dev/null 2>&1
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent puppeteer-core@24.43.1

cat >probe.mjs <<'JS'
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import puppeteer from 'puppeteer-core';

const site = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html>'));
const gone = createServer();
for (const server of [site, gone]) await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const refused = gone.address().port;
await new Promise((resolve) => gone.close(resolve));
const browsers = {
  Firefox: { browser: 'firefox', executablePath: '/usr/bin/firefox-esr' },
  Chromium: {
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  },
};
for (const [name, options] of Object.entries(browsers)) {
  const browser = await puppeteer.launch({ headless: true, ...options });
  console.error(name, await browser.version());
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  await page.evaluate((port) => {
    globalThis.took = [];
    const attempt = () => {
      const started = performance.now();
      new WebSocket(`ws://127.0.0.1:${port}/`).onclose = () => {
        globalThis.took.push((performance.now() - started) / 1000);
        setTimeout(attempt, 1000);
      };
    };
    attempt();
  }, refused);
  await delay(65_000);
  const took = await page.evaluate(() => globalThis.took);
  console.error('seconds:', took.map((seconds) => seconds.toFixed(1)).join(' '));
  const fetched = await page.evaluate(async (port) => {
    const started = performance.now();
    await fetch(`http://127.0.0.1:${port}/`, { mode: 'no-cors' }).catch(() => {});
    return (performance.now() - started) / 1000;
  }, refused);
  const first = Math.max(...took.slice(0, 4));
  const last = Math.max(...took.slice(-3));
  console.log(`${name}: first attempts under 0.3 s: ${first < 0.3}, last over 1 s: ${last > 1}, fetch under 0.3 s: ${fetched < 0.3}`);
  await browser.close();
}
process.exit();
JS
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
Firefox: first attempts under 0.3 s: true, last over 1 s: true, fetch under 0.3 s: true
Chromium: first attempts under 0.3 s: true, last over 1 s: true, fetch under 0.3 s: true
TEXT

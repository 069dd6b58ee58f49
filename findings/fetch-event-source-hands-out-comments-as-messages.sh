#!/usr/bin/env bash
# npm @microsoft/fetch-event-source: each comment of a stream is handed to `onmessage` as a message without data, and a handler that
# parses it ends the connection.
#
# Expected: an event without data is not dispatched, so comments that keep a stream open are not seen.
# Seen with @microsoft/fetch-event-source 2.0.1: `: keep-alive`, and `retry:` by itself, are messages whose data is "". `JSON.parse` throws
# on that, and what `onmessage` throws is treated as an error of the network: the stream is closed and opened again, with each comment.
# npm eventsource 5.1.5 hands out the event alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent @microsoft/fetch-event-source@2.0.1 eventsource@5.1.5

cat >probe.mjs <<'JS'
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';
import { EventSource } from 'eventsource';

const { fetchEventSource } = createRequire(import.meta.url)('@microsoft/fetch-event-source');
let opened = 0;
const server = createServer((request, response) => {
  opened += 1;
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write('retry: 100\n\ndata: {"n":1}\n\n');
  const comments = setInterval(() => response.write(': keep-alive\n\n'), 500);
  response.on('close', () => clearInterval(comments));
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const url = `http://127.0.0.1:${server.address().port}`;

const source = new EventSource(url);
const messages = [];
source.onmessage = ({ data }) => messages.push(data);
await delay(3000);
source.close();
console.log(`eventsource: ${opened} connection, messages: ${JSON.stringify(messages)}`);

// It asks a page whether it is seen.
Object.assign(globalThis, { window: globalThis, document: { hidden: false, addEventListener() {}, removeEventListener() {} } });
async function listen(onmessage) {
  opened = 0;
  const ending = new AbortController();
  const ended = fetchEventSource(url, { signal: ending.signal, onmessage, onerror() {} });
  await delay(3000);
  ending.abort();
  await ended;
}
const without = new Set();
await listen(({ data }) => without.add(data));
console.log(`fetch-event-source: ${opened} connection, messages: ${JSON.stringify([...without].sort())}`);
await listen(({ data }) => JSON.parse(data));
console.log(`fetch-event-source with JSON.parse: ${opened > 1 ? 'connects again and again' : 'stays'}`);
process.exit();
JS
seen=$(timeout 60 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
eventsource: 1 connection, messages: ["{\"n\":1}"]
fetch-event-source: 1 connection, messages: ["","{\"n\":1}"]
fetch-event-source with JSON.parse: connects again and again
TEXT

#!/usr/bin/env bash
# npm reconnecting-eventsource: with `onmessage` it forgets the last id when it replaces a stream that was refused.
#
# Expected: it returns with the id of its last event, since it is there to keep a connection over answers such as 502, after which an
# EventSource gives up. Its event listeners do so.
# Seen with reconnecting-eventsource 1.6.5 over eventsource 5.1.5 in Node 20.20: it notes ids only in handlers of `addEventListener`. A
# page with `onmessage` alone returns without one, and misses what was sent meanwhile. A page with both gets each message twice in
# `onmessage`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent reconnecting-eventsource@1.6.5 eventsource@5.1.5

cat >probe.mjs <<'JS'
import { createServer } from 'node:http';
import { EventSource } from 'eventsource';
import reconnecting from 'reconnecting-eventsource';

const ReconnectingEventSource = reconnecting.default ?? reconnecting;
let asked;
let returned;
const server = createServer(({ url, headers }, response) => {
  asked += 1;
  if (asked === 2) return response.writeHead(502).end();
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  if (asked === 1) return response.end('retry: 100\nid: 7\ndata: hello\n\n');
  returned(headers['last-event-id'] ?? new URL(url, 'http://localhost').searchParams.get('lastEventId'));
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const ways = {
  onmessage: (source, handler) => (source.onmessage = handler),
  addEventListener: (source, handler) => source.addEventListener('message', handler),
  both(source, handler) {
    source.onmessage = handler;
    source.addEventListener('message', () => {});
  },
};
for (const [name, listen] of Object.entries(ways)) {
  asked = 0;
  let messages = 0;
  const back = new Promise((resolve) => (returned = resolve));
  const source = new ReconnectingEventSource(`http://127.0.0.1:${server.address().port}/`, { eventSourceClass: EventSource, max_retry_time: 100 });
  listen(source, () => (messages += 1));
  console.log(`${name}: returns with the id ${await back}, handler called ${messages} times for 1 message`);
  source.close();
}
process.exit();
JS
seen=$(timeout 60 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
onmessage: returns with the id null, handler called 1 times for 1 message
addEventListener: returns with the id 7, handler called 1 times for 1 message
both: returns with the id 7, handler called 2 times for 1 message
TEXT

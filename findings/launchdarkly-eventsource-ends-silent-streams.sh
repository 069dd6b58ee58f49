#!/usr/bin/env bash
# launchdarkly-eventsource: without the option `readTimeoutMillis` a stream ends after 5 s of silence in Node 20.
#
# Expected: no time-out, since none was asked for.
# Seen with launchdarkly-eventsource 2.2.0 in Node 20.20: "Read timeout, received no data in undefinedms, assuming connection is dead".
# It listens to the request's `timeout`, which Node's own agent sets to 5 s. With `readTimeoutMillis: 60000` the stream stays.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent launchdarkly-eventsource@2.2.0

cat >probe.mjs <<'JS'
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { EventSource } from 'launchdarkly-eventsource';

const server = createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write('retry: 100\ndata: hello\n\n');
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
for (const options of [undefined, { readTimeoutMillis: 60_000 }]) {
  const source = new EventSource(`http://127.0.0.1:${server.address().port}`, options);
  let timeouts = 0;
  source.onerror = ({ message }) => (timeouts += /Read timeout/.test(message));
  await delay(8000);
  source.close();
  console.log(`${JSON.stringify(options) ?? 'no options'}: ${timeouts > 0 ? 'times out' : 'stays'}`);
}
process.exit();
JS
seen=$(timeout 60 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
no options: times out
{"readTimeoutMillis":60000}: stays
TEXT

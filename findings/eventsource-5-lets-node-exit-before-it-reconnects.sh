#!/usr/bin/env bash
# npm eventsource 5: a Node program that only listens to a stream ends, with exit code 0, when its connection is lost.
#
# Expected: it reconnects after the time that the stream's `retry:` set, as browsers do, and as version 4 does.
# Seen with eventsource 5.1.5 on Node 20: the timer of the reconnection doesn't keep the process alive. An open connection does, so
# the program runs for as long as nothing fails. Whoever uses it keeps the process alive by other means, such as a timer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"type":"module","dependencies":{"eventsource-5":"npm:eventsource@5.1.5","eventsource-4":"npm:eventsource@4.1.1"}}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts

cat >server.mjs <<'JS'
import { createServer } from 'node:http';

// The first answer ends after a moment, later ones stay open.
let requests = 0;
const server = createServer((request, response) => {
  requests += 1;
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(`retry: 500\ndata: ${requests}\n\n`);
  if (requests === 1) setTimeout(() => response.end(), 200);
});
server.listen(0, '127.0.0.1', () => process.send(server.address().port));
JS
cat >client.mjs <<'JS'
const [, , name, url] = process.argv;
const { EventSource } = await import(name);
const source = new EventSource(url);
source.onmessage = ({ data }) => process.stdout.write(`${data} `);
JS
cat >probe.mjs <<'JS'
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';

for (const name of ['eventsource-5', 'eventsource-4']) {
  const server = fork('server.mjs');
  const [port] = await once(server, 'message');
  const client = spawn('node', ['client.mjs', name, `http://127.0.0.1:${port}/`]);
  let heard = '';
  client.stdout.on('data', (data) => (heard += data));
  const timer = setTimeout(() => client.kill(), 4000);
  const [code] = await once(client, 'exit');
  clearTimeout(timer);
  console.log(`${name}: got ${heard.trim()}, ${code === null ? 'still listens' : `has ended with ${code}`}`);
  server.kill();
}
JS
seen=$(node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
eventsource-5: got 1, has ended with 0
eventsource-4: got 1 2, still listens
TEXT

#!/usr/bin/env bash
# pusher-js: `unsubscribe` drops a channel's listeners, unless the server's answer to the subscription is still to come.
#
# Expected: whoever unsubscribes, subscribes again and binds a listener again has one, whenever that was.
# Seen with pusher-js 8.6.0: within the first moment the same channel object is used again with the listeners that it had, so each event
# is handled twice. React's StrictMode mounts each component twice at once, and a quick change of pages does the same. A component that
# also calls `unbind` when it goes has one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent pusher-js@8.6.0 ws@8.23.0

cat >probe.mjs <<'JS'
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import Pusher from 'pusher-js';
import { WebSocketServer } from 'ws';

const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
await once(server, 'listening');
let say;
server.on('connection', (socket) => {
  say = (event, channel, data) => socket.send(JSON.stringify({ event, channel, data: JSON.stringify(data) }));
  say('pusher:connection_established', undefined, { socket_id: '1.1', activity_timeout: 120 });
  socket.on('message', async (text) => {
    const { event, data } = JSON.parse(text);
    await delay(100);
    if (event === 'pusher:subscribe') say('pusher_internal:subscription_succeeded', data.channel, {});
  });
});
const pusher = new Pusher('key', { cluster: 'x', wsHost: '127.0.0.1', wsPort: server.address().port, forceTLS: false, enabledTransports: ['ws'] });
await new Promise((resolve) => pusher.connection.bind('connected', resolve));
const ways = {
  'after the answer': { wait: 500 },
  'before the answer': { wait: 0 },
  'before the answer, with unbind': { wait: 0, unbind: true },
};
for (const [name, { wait, unbind }] of Object.entries(ways)) {
  const channel = name.replaceAll(/\W+/g, '-');
  let calls = 0;
  // As a component does that is mounted, goes, and is mounted again.
  const mount = () => {
    const handler = () => (calls += 1);
    pusher.subscribe(channel).bind('created', handler);
    return () => {
      if (unbind) pusher.channel(channel).unbind('created', handler);
      pusher.unsubscribe(channel);
    };
  };
  const unmount = mount();
  await delay(wait);
  unmount();
  mount();
  await delay(500);
  say('created', channel, {});
  await delay(300);
  console.log(`unsubscribed ${name}: one event is handled ${calls} times`);
}
process.exit();
JS
seen=$(timeout 60 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
unsubscribed after the answer: one event is handled 1 times
unsubscribed before the answer: one event is handled 2 times
unsubscribed before the answer, with unbind: one event is handled 1 times
TEXT

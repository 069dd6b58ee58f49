#!/usr/bin/env bash
# pusher-js: in a presence channel `members.me.id` may be a number while the same member of `members.each` has a string.
#
# Expected: one type for all ids, so that `member.id === members.me.id` finds oneself.
# Seen with pusher-js 8.6.0: `me` is found by the `user_id` that the application's auth endpoint wrote, a number if it wrote one, as
# npm pusher 5.3.4 passes it on. The ids of `each`, and of members who come later, are strings. A page that shows everyone but oneself
# shows oneself as well.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent pusher-js@8.6.0 pusher@5.3.4 ws@8.23.0

cat >probe.mjs <<'JS'
import { once } from 'node:events';
import Backend from 'pusher';
import Pusher from 'pusher-js';
import { WebSocketServer } from 'ws';

// As hosted Pusher and others answer: ids are strings.
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
await once(server, 'listening');
server.on('connection', (socket) => {
  const say = (event, data, channel) => socket.send(JSON.stringify({ event, channel, data: JSON.stringify(data) }));
  say('pusher:connection_established', { socket_id: '1.1', activity_timeout: 120 });
  socket.on('message', (text) => {
    const { event, data } = JSON.parse(text);
    if (event !== 'pusher:subscribe') return;
    const id = String(JSON.parse(data.channel_data).user_id);
    say('pusher_internal:subscription_succeeded', { presence: { count: 2, ids: [id, '8'], hash: { [id]: {}, 8: {} } } }, data.channel);
  });
});
const backend = new Backend({ appId: '1', key: 'key', secret: 'secret' });
for (const user_id of [7, '7']) {
  const pusher = new Pusher('key', {
    cluster: 'x',
    wsHost: '127.0.0.1',
    wsPort: server.address().port,
    forceTLS: false,
    enabledTransports: ['ws'],
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, done) => done(null, backend.authorizeChannel(socketId, channelName, { user_id })),
    },
  });
  const channel = pusher.subscribe('presence-room');
  await new Promise((resolve) => channel.bind('pusher:subscription_succeeded', resolve));
  const others = [];
  channel.members.each(({ id }) => id !== channel.members.me.id && others.push(id));
  console.log(`user_id ${JSON.stringify(user_id)}: me is ${JSON.stringify(channel.members.me.id)}, others are ${JSON.stringify(others)}`);
  pusher.disconnect();
}
process.exit();
JS
seen=$(timeout 60 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
user_id 7: me is 7, others are ["7","8"]
user_id "7": me is "7", others are ["8"]
TEXT

#!/usr/bin/env bash
# pusher-js: listeners of `pusher.user` get `undefined` for data that is 0, false, "" or null; listeners of a channel get the value.
#
# Expected: the same data for both, as in `channel.bind('event', (data) => ...)`.
# Seen with pusher-js 8.6.0: an event with data 0 on `#server-to-user-ID` reaches `pusher.user.bind` without an argument, and the same event
# on an ordinary channel as 0. Backends that count or flag with `sendToUser` should send an object.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent pusher-js@8.6.0 ws@8.23.0

cat >probe.mjs <<'JS'
import Pusher from 'pusher-js';
import { WebSocketServer } from 'ws';

const values = [0, false, '', null, 1];
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
await new Promise((resolve) => server.once('listening', resolve));
server.on('connection', (socket) => {
  const send = (event, data, channel) => socket.send(JSON.stringify({ event, channel, data: JSON.stringify(data) }));
  send('pusher:connection_established', { socket_id: '1.1', activity_timeout: 120 });
  socket.on('message', (text) => {
    const { event, data } = JSON.parse(text);
    if (event === 'pusher:signin') send('pusher:signin_success', { user_data: data.user_data });
    if (event !== 'pusher:subscribe') return;
    send('pusher_internal:subscription_succeeded', {}, data.channel);
    values.forEach((value) => send('news', value, data.channel));
  });
});
const client = new Pusher('key', {
  cluster: 'x', wsHost: '127.0.0.1', wsPort: server.address().port, forceTLS: false, enabledTransports: ['ws'],
  userAuthentication: { customHandler: (_, done) => done(null, { auth: 'key:x', user_data: '{"id":"ada"}' }) },
});
const heard = (emitter) =>
  new Promise((resolve) => {
    const all = [];
    emitter.bind('news', (...given) => all.push(given[0]) === values.length && resolve(all));
  });
const [onChannel, onUser] = [heard(client.subscribe('room')), heard(client.user)];
client.signin();
const show = (all) => all.map((value) => JSON.stringify(value) ?? 'undefined').join(' ');
console.log(`channel: ${show(await onChannel)}`);
console.log(`user: ${show(await onUser)}`);
process.exit();
JS
seen=$(timeout 30 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
channel: 0 false "" null 1
user: undefined undefined undefined undefined 1
TEXT

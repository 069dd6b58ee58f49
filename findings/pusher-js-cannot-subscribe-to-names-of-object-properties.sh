#!/usr/bin/env bash
# pusher-js: channels that are named as a property of every object, such as `constructor` or `toString`, can't be subscribed to.
#
# Expected: they are names as any other: letters alone, which the server SDKs accept.
# Seen with pusher-js 8.6.0: before the client is connected, `subscribe` and then `bind` do nothing and say nothing; afterwards
# `subscribe` throws "channel.subscribe is not a function". Its channels are properties of an object. Channels that are named after what
# users type or after a program's symbols meet this; a prefix of one's own (`docs-constructor`) avoids it.
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

const asked = [];
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
await once(server, 'listening');
server.on('connection', (socket) => {
  const data = JSON.stringify({ socket_id: '1.1', activity_timeout: 120 });
  socket.send(JSON.stringify({ event: 'pusher:connection_established', data }));
  socket.on('message', (text) => asked.push(JSON.parse(text).data.channel));
});
const NAMES = ['constructor', 'toString', 'docs-constructor'];
for (const [when, name] of ['before it is connected', 'afterwards'].flatMap((when) => NAMES.map((name) => [when, name]))) {
  const pusher = new Pusher('key', {
    cluster: 'x',
    wsHost: '127.0.0.1',
    wsPort: server.address().port,
    forceTLS: false,
    enabledTransports: ['ws'],
  });
  const connected = new Promise((resolve) => pusher.connection.bind('connected', resolve));
  if (when === 'afterwards') await connected;
  let said = 'no error';
  try {
    pusher.subscribe(name).bind('created', () => {});
  } catch ({ message }) {
    said = message;
  }
  await connected;
  await delay(500);
  console.log(`${when}: ${name}: ${asked.splice(0).includes(name) ? 'subscribed' : 'not subscribed'}, ${said}`);
  pusher.disconnect();
}
process.exit();
JS
seen=$(timeout 60 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
before it is connected: constructor: not subscribed, no error
before it is connected: toString: not subscribed, no error
before it is connected: docs-constructor: subscribed, no error
afterwards: constructor: not subscribed, channel.subscribe is not a function
afterwards: toString: not subscribed, channel.subscribe is not a function
afterwards: docs-constructor: subscribed, no error
TEXT

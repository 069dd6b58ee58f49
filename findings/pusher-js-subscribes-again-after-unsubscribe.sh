#!/usr/bin/env bash
# pusher-js subscribes on the next connection to a channel that the application unsubscribed from, if the server's answer to the
# subscription was still to come when the connection ended.
#
# Expected: after `unsubscribe(name)` the client does not ask for that channel again.
# Seen with pusher-js 8.6.0 in Node: `unsubscribe` of a pending subscription only marks the channel and keeps it in the list. When the
# connection is lost, the mark stays unused; the next connection subscribes to all channels of the list, and clears the mark.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --ignore-scripts --no-audit --no-fund --silent pusher-js@8.6.0 ws@8.23.0

cat >probe.mjs <<'JS'
import Pusher from 'pusher-js';
import { WebSocketServer } from 'ws';

const asked = [];
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
let connections = 0;
await new Promise((resolve) => server.on('listening', resolve));
const second = new Promise((resolve) => {
  server.on('connection', (socket) => {
    const number = (connections += 1);
    const greeting = { socket_id: `1.${number}`, activity_timeout: 120 };
    socket.send(JSON.stringify({ event: 'pusher:connection_established', data: JSON.stringify(greeting) }));
    socket.on('message', (text) => {
      const { event, data } = JSON.parse(text);
      if (event !== 'pusher:subscribe') return;
      asked.push(`connection ${number}: ${data.channel}`);
      // The first one is never answered. `fence` comes last on the second.
      if (number === 2 && data.channel === 'fence') resolve();
    });
  });
});
const pusher = new Pusher('key', {
  cluster: 'x',
  wsHost: '127.0.0.1',
  wsPort: server.address().port,
  forceTLS: false,
  enabledTransports: ['ws'],
});
await new Promise((resolve) => pusher.connection.bind('connected', resolve));
pusher.subscribe('left');
pusher.unsubscribe('left');
pusher.subscribe('fence');
while (asked.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
server.clients.forEach((socket) => socket.close(1001));
await second;
console.log(asked.join('\n'));
process.exit(asked.includes('connection 2: left') ? 0 : 1);
JS
echo "node $(node --version), pusher-js 8.6.0"
if node probe.mjs; then
  echo 'seen: the channel that was unsubscribed from is asked for again'
else
  echo 'changed: it is not asked for again'
  exit 1
fi

#!/usr/bin/env bash
# Socket.IO: after a volatile event whose last argument is a string, a client doesn't recover, and the events it missed are lost.
#
# Expected: with `connectionStateRecovery` a client that was away for a moment gets what it missed. Volatile events are left out of that, as
# documented, and change nothing for the others.
# Seen with socket.io and socket.io-client 4.8.4: the server appends an offset, a string, to the arguments of an event that it keeps, and
# nothing to a volatile one. The client takes a string at the end of any event for the offset. So `io.volatile.emit('status', 'ok')` makes it
# return with the offset "ok", which the server doesn't know. The same event with a number at its end does no harm.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"type":"module","dependencies":{"socket.io":"4.8.4","socket.io-client":"4.8.4"}}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts

cat >probe.mjs <<'JS'
import { once } from 'node:events';
import { Server } from 'socket.io';
import { io } from 'socket.io-client';

const server = new Server(0, { connectionStateRecovery: {} });
const url = `http://127.0.0.1:${server.httpServer.address().port}`;
for (const status of [1, 'ok']) {
  const arrived = new Promise((resolve) => server.once('connection', resolve));
  const client = io(url, { forceNew: true, transports: ['websocket'] });
  const kept = [];
  client.on('kept', (n) => kept.push(n));
  const connection = await arrived;
  const first = once(client, 'kept');
  server.emit('kept', 1);
  await first;
  const volatile = once(client, 'status');
  server.volatile.emit('status', status);
  await volatile;

  const back = once(client, 'connect');
  connection.conn.close();
  server.emit('kept', 2);
  await back;
  // What was missed has come before the answer to this.
  const last = once(client, 'last');
  server.emit('last');
  await last;
  console.log(`after ${JSON.stringify(status)}: recovered ${client.recovered}, got ${kept.join(' ')}`);
  client.disconnect();
}
process.exit();
JS
seen=$(timeout 30 node probe.mjs)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
after 1: recovered true, got 1 2
after "ok": recovered false, got 1
TEXT

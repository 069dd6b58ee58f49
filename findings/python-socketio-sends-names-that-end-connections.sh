#!/usr/bin/env bash
# python-socketio's server sends events named `connect` or `newListener`, and JavaScript clients drop their connection over them.
#
# Expected: the server refuses to send them, as socket.io does ('"connect" is a reserved event name'), or the client ignores them.
# Seen with python-socketio 5.18.1 and socket.io-client 4.8.4: `emit` takes `connect`, `connect_error`, `disconnect`, `disconnecting`,
# `newListener` and `removeListener` without a word. The client cannot parse them: "parse error". It reconnects, and is dropped again by the
# next one.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
echo '{"type":"module","dependencies":{"socket.io-client":"4.8.4"}}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check python-socketio==5.18.1

cat >server.py <<'PYTHON'
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import socketio


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Silent(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass


sio = socketio.Server(async_mode="threading")


@sio.event
def please(sid, name):
    sio.emit(name, 1, to=sid)


server = make_server("127.0.0.1", 0, socketio.WSGIApp(sio), Server, Silent)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
cat >probe.mjs <<'JS'
import { once } from 'node:events';
import { io } from 'socket.io-client';

const [, , port] = process.argv;
for (const name of ['news', 'connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener']) {
  const client = io(`http://127.0.0.1:${port}`, { forceNew: true, reconnection: false, transports: ['polling'] });
  await once(client, 'connect');
  const seen = await new Promise((resolve) => {
    client.on('disconnect', resolve);
    client.onAny(() => resolve('arrives'));
    client.emit('please', name);
  });
  console.log(`${name}: ${seen}`);
  client.disconnect();
}
process.exit();
JS
venv/bin/python server.py >port &
until [[ -s port ]]; do sleep 0.1; done
seen=$(timeout 30 node probe.mjs "$(<port)")
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
news: arrives
connect: parse error
connect_error: parse error
disconnect: parse error
disconnecting: parse error
newListener: parse error
removeListener: parse error
TEXT

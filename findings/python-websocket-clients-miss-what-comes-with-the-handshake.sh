#!/usr/bin/env bash
# PyPI simple-websocket and ws4py: messages that arrive together with the answer to the handshake are held back or lost.
#
# Expected: a server may send frames as soon as it has answered, and TCP may deliver them with the answer, as a busy machine or a proxy
# does now and then.
# Seen with a server that sends its answer and three messages at once, and a fourth two seconds later:
# - simple-websocket 1.1.0 hands out none of them before the fourth is there. A client that waits for a greeting waits until the server
#   sends something else, which may be a PING much later.
# - ws4py 0.6.0 hands out the first, and loses the other two for good.
# websocket-client 1.9.2 hands out all three at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target packages \
  simple-websocket==1.1.0 ws4py==0.6.0 websocket-client==1.9.2

cat >probe.py <<'PY'
import base64
import hashlib
import re
import socket
import sys
import threading
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
listener = socket.create_server(("127.0.0.1", 0))
url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"


def text(payload):
    return bytes([0x81, len(payload)]) + payload


def serve():
    connection, _ = listener.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)[1]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    connection.sendall(answer + accept + b"\r\n\r\n" + text(b"one") + text(b"two") + text(b"three"))
    time.sleep(2)
    connection.sendall(text(b"later"))
    time.sleep(2)


def simple_websocket(got):
    import simple_websocket

    client = simple_websocket.Client(url)
    while True:
        got(client.receive())


def ws4py(got):
    from ws4py.client.threadedclient import WebSocketClient

    class Client(WebSocketClient):
        def received_message(self, message):
            got(str(message))

    Client(url).connect()


def websocket_client(got):
    import websocket

    client = websocket.create_connection(url)
    while True:
        got(client.recv())


def quietly(use, got):
    try:
        use(got)
    except Exception:
        pass  # The server has left.


threading.Thread(target=serve, daemon=True).start()
messages = []
threading.Thread(target=quietly, args=(globals()[sys.argv[1]], messages.append), daemon=True).start()
while "later" not in messages and len(messages) < 3:
    time.sleep(0.01)
print(f"{sys.argv[1]}: {' '.join(messages)}", flush=True)
PY
seen=$(for client in simple_websocket ws4py websocket_client; do
  PYTHONPATH=packages timeout 30 python3 probe.py "$client" 2>/dev/null || echo "$client: ended"
done)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
simple_websocket: one two three later
ws4py: one later
websocket_client: one two three
TEXT

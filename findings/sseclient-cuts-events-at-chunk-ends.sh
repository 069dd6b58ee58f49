#!/usr/bin/env bash
# PyPI sseclient: it reads below HTTP's chunked coding, so an event that is in two chunks is cut at the end of the first.
#
# Expected: chunks say nothing about events, and a proxy may cut a stream anew wherever its buffer is full.
# Seen with sseclient 0.0.27 (requests 2.34.2) and a stream whose only event is sent in two pieces: `data` is what came before the end of
# the first chunk, and the rest is lost, because sizes of chunks and the line ends around them are taken for lines of the stream.
# requests-sse 0.5.3 gets the event whole.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target packages \
  sseclient==0.0.27 requests-sse==0.5.3 requests==2.34.2

cat >probe.py <<'PY'
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests_sse
import sseclient

PIECES = ['data: {"text":"one', ' event"}\n\n']


class Stream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in PIECES:
            self.wfile.write(f"{len(piece):x}\r\n{piece}\r\n".encode())
            self.wfile.flush()
            time.sleep(0.5)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}/"
print("sseclient:", next(iter(sseclient.SSEClient(url))).data)
with requests_sse.EventSource(url) as source:
    print("requests-sse:", next(iter(source)).data)
PY
seen=$(PYTHONPATH=packages timeout 60 python3 probe.py)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
sseclient: {"text":"one
requests-sse: {"text":"one event"}
TEXT

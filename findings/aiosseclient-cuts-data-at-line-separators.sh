#!/usr/bin/env bash
# PyPI aiosseclient: data ends at U+2028, U+2029 or U+0085, which are no line ends in a stream.
#
# Expected: lines of Server-Sent Events end with CR, LF or both. JSON may have these three characters as they are, and `JSON.stringify`
# writes them so. Text that was pasted from a word processor has them.
# Seen with aiosseclient 0.1.8: what follows the character is dropped with the warning "Invalid SSE line", since it parses an event with
# Python's `str.splitlines`. httpx-sse 0.4.3 hands out all of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target packages \
  aiosseclient==0.1.8 httpx-sse==0.4.3 httpx==0.28.1

cat >probe.py <<'PY'
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from aiosseclient import aiosseclient
from httpx_sse import connect_sse

SEPARATORS = ["\u0085", "\u2028", "\u2029"]


class Stream(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        for separator in SEPARATORS:
            self.wfile.write(f"data: before{separator}after\n\n".encode())

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}/"


async def read():
    return [event.data async for event in aiosseclient(url)]


print("aiosseclient:", [ascii(data) for data in asyncio.run(read())])
with httpx.Client() as client, connect_sse(client, "GET", url) as source:
    print("httpx-sse:", [ascii(event.data) for event in source.iter_sse()])
PY
seen=$(PYTHONPATH=packages timeout 60 python3 probe.py 2>/dev/null)
echo "$seen"
diff <(echo "$seen") - <<'TEXT'
aiosseclient: ["'before'", "'before'", "'before'"]
httpx-sse: ["'before\\x85after'", "'before\\u2028after'", "'before\\u2029after'"]
TEXT

"""Webhooks as receivers in Python verify them, unmodified: `FANFARE_BIN=... python webhook_receivers_test.py`."""

import json
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

from python_sdk_test import APP, Socket, sdk
from server import HOST, Server

PATIENCE = 20


class Receiver(ThreadingHTTPServer):
    """Takes webhooks, and answers the first request for a channel that `fails` with 500."""

    def __init__(self):
        super().__init__((HOST, 0), Handler)
        self.requests = []
        self.fails = set()
        self.heard = threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://{HOST}:{self.server_port}/hook"

    def wait_for(self, fits):
        with self.heard:
            found = self.heard.wait_for(lambda: [request for request in self.requests if fits(*request)], PATIENCE)
            if not found:
                raise AssertionError(f"no such request among {self.requests}")
            return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.heard:
            self.server.requests.append((self.headers, body))
            failing = next((channel for channel in self.server.fails if channel.encode() in body), None)
            self.server.fails.discard(failing)
            self.send_response(500 if failing else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.server.heard.notify_all()

    def log_message(self, *_):
        pass


class WebhookReceivers(unittest.TestCase):
    """Each test is named for what a receiver relies on."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(APP, FANFARE_WEBHOOKS_ALLOW_INNER_ADDRESSES="true")
        cls.addClassCleanup(cls.server.stop)
        cls.sdk = sdk(cls.server)
        cls.pusher, cls.standard = Receiver(), Receiver()
        for receiver in (cls.pusher, cls.standard):
            cls.addClassCleanup(receiver.server_close)
            cls.addClassCleanup(receiver.shutdown)
        create = ["webhook", "create", "--app", APP["app_id"], "--json"]
        cls.server.run(*create, "--url", cls.pusher.url)
        webhook = json.loads(cls.server.run(*create, "--url", cls.standard.url, "--format", "standard"))
        cls.webhook, cls.secret = webhook["id"], webhook["secret"]
        # The command line writes the store; the server learns of it within a second.
        time.sleep(1.1)

    def occupy(self, channel):
        client = Socket(self.server.port)
        self.addCleanup(client.close)
        client.subscribe(channel)

    def test_pusher_for_python_accepts_each_attempt(self):
        self.pusher.fails.add("python-retried")
        self.occupy("python-retried")
        attempts = self.pusher.wait_for(lambda headers, body: b"python-retried" in body and headers["Fanfare-Attempt"] == "2")
        attempts += self.pusher.wait_for(lambda headers, body: b"python-retried" in body)
        for headers, body in attempts:
            webhook = self.sdk.validate_webhook(headers["X-Pusher-Key"], headers["X-Pusher-Signature"], body.decode())
            self.assertEqual(webhook["events"], [{"name": "channel_occupied", "channel": "python-retried"}])

    def test_headers_have_the_names_that_pusher_for_php_looks_up(self):
        # It takes what getallheaders() returns, which may be the names as they were sent, and tells upper from lower case.
        self.occupy("python-names")
        [(headers, _)] = self.pusher.wait_for(lambda _, body: b"python-names" in body)
        for name in ("X-Pusher-Key", "X-Pusher-Signature", "Content-Type", "Fanfare-Delivery"):
            self.assertIn(name, headers.keys())

    def test_standard_webhooks_for_python_accepts_each_attempt_and_both_secrets_after_a_rotation(self):
        self.standard.fails.add("standard-retried")
        self.occupy("standard-retried")
        attempts = self.standard.wait_for(lambda headers, body: b"standard-retried" in body and headers["Fanfare-Attempt"] == "2")
        attempts += self.standard.wait_for(lambda _, body: b"standard-retried" in body)
        for headers, body in attempts:
            event = Webhook(self.secret).verify(body, dict(headers))
            self.assertEqual(event["type"], "channel_occupied")
            self.assertEqual(event["data"], {"channel": "standard-retried"})
        self.assertEqual(len({headers["webhook-id"] for headers, _ in attempts}), 1)

        rotated = json.loads(self.server.run("webhook", "rotate-secret", self.webhook, "--json"))["secret"]
        time.sleep(1.1)
        self.occupy("standard-rotated")
        [(headers, body), *_] = self.standard.wait_for(lambda _, body: b"standard-rotated" in body)
        for secret in (self.secret, rotated):
            Webhook(secret).verify(body, dict(headers))
        with self.assertRaises(WebhookVerificationError):
            Webhook("whsec_" + "A" * 32).verify(body, dict(headers))


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""The official Python SDK, unmodified, against the built server: `FANFARE_BIN=... python python_sdk_test.py`."""

import base64
import json
import os
import socket
import struct
import unittest

import pusher
from pusher.errors import PusherBadAuth, PusherBadRequest

from server import HOST, TIMEOUT, Server

APP = {"app_id": "1234567", "key": "e2e-key", "secret": "e2e-secret"}


class Socket:
    """As much of a WebSocket client as it takes to see frames: the SDK brings none."""

    def __init__(self, port):
        self.stream = socket.create_connection((HOST, port), timeout=TIMEOUT)
        self.reader = self.stream.makefile("rb")
        nonce = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            (
                f"GET /app/{APP['key']}?protocol=7&client=test&version=1 HTTP/1.1\r\nHost: {HOST}\r\n"
                f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {nonce}\r\n\r\n"
            ).encode()
        )
        while self.reader.readline() not in (b"\r\n", b""):
            pass
        self.id = json.loads(self.receive()["data"])["socket_id"]

    def receive(self):
        opcode, length = self.reader.read(2)
        if length == 126:
            (length,) = struct.unpack("!H", self.reader.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.reader.read(8))
        payload = self.reader.read(length)
        if opcode != 0x81:
            raise AssertionError(f"not a text frame: {opcode:#x} {payload!r}")
        return json.loads(payload)

    def send(self, event, data):
        payload = json.dumps({"event": event, "data": data}).encode()
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BH", 0x80 | 126, len(payload))
        # A mask of zeros is a valid mask and leaves the payload as it is.
        self.stream.sendall(b"\x81" + length + bytes(4) + payload)

    def subscribe(self, channel, authorization=None):
        self.send("pusher:subscribe", {"channel": channel, **(authorization or {})})
        return self.receive()

    def close(self):
        self.reader.close()
        self.stream.close()


def sdk(server, **overrides):
    options = {**APP, "host": HOST, "port": server.port, "ssl": False, **overrides}
    return pusher.Pusher(**options)


class PythonSdk(unittest.TestCase):
    """Each test is named for what an application written with the SDK relies on."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(APP)
        cls.addClassCleanup(cls.server.stop)
        cls.sdk = sdk(cls.server)

    def connect(self):
        client = Socket(self.server.port)
        self.addCleanup(client.close)
        return client

    def join(self, channel, user):
        client = self.connect()
        answer = client.subscribe(channel, self.sdk.authenticate(channel, client.id, user))
        self.assertEqual(answer["event"], "pusher_internal:subscription_succeeded")
        return client

    def test_trigger_reaches_a_subscriber_with_the_data_as_it_was_encoded(self):
        client = self.connect()
        client.subscribe("news")
        data = {"text": "Zürich 🎉 \u2028"}
        self.assertEqual(self.sdk.trigger("news", "headline", data), {})
        frame = client.receive()
        self.assertEqual((frame["event"], frame["channel"]), ("headline", "news"))
        self.assertEqual(json.loads(frame["data"]), data)

    def test_trigger_leaves_out_the_given_socket(self):
        sender, other = self.connect(), self.connect()
        for client in (sender, other):
            client.subscribe("others")
        self.sdk.trigger("others", "first", "1", socket_id=sender.id)
        self.sdk.trigger("others", "second", "2")
        self.assertEqual(other.receive()["event"], "first")
        self.assertEqual(sender.receive()["event"], "second")

    def test_trigger_batch_is_delivered_in_its_order(self):
        client = self.connect()
        client.subscribe("batched")
        names = [f"event-{n}" for n in range(10)]
        self.sdk.trigger_batch([{"channel": "batched", "name": name, "data": {}} for name in names])
        self.assertEqual([client.receive()["event"] for _ in names], names)

    def test_channels_info_lists_and_counts_under_a_prefix(self):
        for user in ("ada", "ada", "bob"):
            self.join("presence-list", {"user_id": user})
        channels = self.sdk.channels_info("presence-list", ["user_count"])
        self.assertEqual(channels, {"channels": {"presence-list": {"user_count": 2}}})
        self.assertEqual(self.sdk.channels_info("nothing-"), {"channels": {}})

    def test_channel_info_tells_occupied_from_empty(self):
        self.join("presence-one", {"user_id": "ada"})
        info = self.sdk.channel_info("presence-one", ["user_count"])
        self.assertEqual(info, {"occupied": True, "user_count": 1})
        self.assertEqual(self.sdk.channel_info("nobody"), {"occupied": False})

    def test_several_attributes_are_answered_together(self):
        for _ in range(2):
            self.join("presence-both", {"user_id": "ada"})
        info = self.sdk.channel_info("presence-both", ["user_count", "subscription_count"])
        self.assertEqual(info, {"occupied": True, "user_count": 1, "subscription_count": 2})

    def test_users_info_lists_each_member_once(self):
        for user in (10, 10, "bob"):
            self.join("presence-users", {"user_id": user})
        users = self.sdk.users_info("presence-users")["users"]
        self.assertEqual(sorted(user["id"] for user in users), ["10", "bob"])

    def test_authenticate_admits_to_a_private_channel_and_to_no_other(self):
        client = self.connect()
        authorization = self.sdk.authenticate("private-orders", client.id)
        self.assertEqual(client.subscribe("private-other", authorization)["data"]["code"], None)
        # The refusal is told a second time, to the channel.
        self.assertEqual(client.receive()["event"], "pusher:subscription_error")
        answer = client.subscribe("private-orders", authorization)
        self.assertEqual(answer["event"], "pusher_internal:subscription_succeeded")

    def test_authenticate_admits_a_member_whose_data_has_spaces_and_escapes(self):
        user = {"user_id": "zoë", "user_info": {"name": "Zoë 🎉"}}
        client = self.connect()
        authorization = self.sdk.authenticate("presence-room", client.id, user)
        self.assertIn("\\u", authorization["channel_data"])
        answer = client.subscribe("presence-room", authorization)
        presence = json.loads(answer["data"])["presence"]
        self.assertEqual(presence, {"ids": ["zoë"], "hash": {"zoë": {"name": "Zoë 🎉"}}, "count": 1})

    def test_authenticate_user_signs_in_and_terminate_user_connections_closes(self):
        client = self.connect()
        client.send("pusher:signin", self.sdk.authenticate_user(client.id, {"id": "ada"}))
        self.assertEqual(client.receive()["event"], "pusher:signin_success")
        self.sdk.terminate_user_connections("ada")
        self.assertEqual(client.receive()["data"]["code"], 4009)

    def test_a_wrong_secret_raises_bad_auth(self):
        with self.assertRaises(PusherBadAuth):
            sdk(self.server, secret="wrong").trigger("news", "headline", {})

    def test_a_refused_request_raises_bad_request_with_the_text_of_the_server(self):
        with self.assertRaisesRegex(PusherBadRequest, r"\S"):
            self.sdk.channel_info("public", ["user_count"])


if __name__ == "__main__":
    unittest.main(verbosity=2)

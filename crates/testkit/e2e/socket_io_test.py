"""python-socketio, unmodified, against the built server: `FANFARE_BIN=... python socket_io_test.py`."""

import queue
import unittest

import socketio

from python_sdk_test import APP, sdk
from server import TIMEOUT, Server

NAMESPACE = f"/{APP['key']}"


class Client:
    """A client of the app, and what it was told, as pairs of an event and its arguments."""

    def __init__(self, server, **options):
        self.told = queue.Queue()
        self.socket = socketio.Client()
        self.socket.on("*", lambda event, *arguments: self.told.put((event, *arguments)), namespace=NAMESPACE)
        self.socket.on("connect", lambda: self.told.put(("connect",)), namespace=NAMESPACE)
        self.socket.connect(server.url, namespaces=[NAMESPACE], **options)

    def ask(self, event, *arguments):
        return self.socket.call(event, arguments, namespace=NAMESPACE, timeout=TIMEOUT)

    def emit(self, event, *arguments):
        self.socket.emit(event, arguments, namespace=NAMESPACE)

    @property
    def id(self):
        return self.socket.get_sid(NAMESPACE)

    def next(self, event):
        """The arguments of the next event of that name."""
        while True:
            name, *arguments = self.told.get(timeout=TIMEOUT)
            if name == event:
                return arguments


class SocketIo(unittest.TestCase):
    """Each test is named for what an application written with python-socketio relies on."""

    @classmethod
    def setUpClass(cls):
        settings = ["--setting", "client_event_channels=lobby", "--setting", "socket_io.broadcast=lobby"]
        cls.server = Server(APP)
        cls.addClassCleanup(cls.server.stop)
        cls.server.run("app", "update", APP["app_id"], *settings)
        cls.sdk = sdk(cls.server)

    def connect(self, server=None, **options):
        client = Client(server or self.server, **options)
        self.addCleanup(client.socket.shutdown)
        return client

    def test_a_client_begins_with_polling_and_upgrades(self):
        client = self.connect()
        self.assertEqual(client.socket.transport(), "websocket")
        self.assertRegex(client.id, r"^\d+\.\d+$")

    def test_a_client_stays_on_one_transport_if_told_so(self):
        for transport in ("polling", "websocket"):
            client = self.connect(transports=[transport])
            self.assertEqual(client.ask("join", f"only-{transport}"), {"ok": True})
            self.sdk.trigger(f"only-{transport}", "e", {"n": 1})
            self.assertEqual(client.next("e"), [{"n": 1}, {"channel": f"only-{transport}"}])

    def test_a_handler_gets_the_data_and_where_it_came_from(self):
        client = self.connect()
        self.assertEqual(client.ask("join", "news"), {"ok": True})
        data = {"text": "Zürich 🎉 \u2028", "list": [1, 2.5, None, True]}
        self.sdk.trigger("news", "headline", data)
        self.assertEqual(client.next("headline"), [data, {"channel": "news"}])

    def test_a_private_channel_is_joined_with_what_the_sdk_signs(self):
        client = self.connect()
        refused = client.ask("join", "private-a")
        self.assertFalse(refused["ok"])
        auth = self.sdk.authenticate("private-a", client.id)
        self.assertEqual(client.ask("join", "private-a", auth), {"ok": True})
        self.sdk.trigger("private-a", "e", 1, socket_id="1.1")
        self.assertEqual(client.next("e")[0], 1)

    def test_a_message_to_all_reaches_all(self):
        one, other = self.connect(), self.connect()
        self.assertEqual(one.ask("chat message", "Grüezi"), {"ok": True})
        other.emit("chat message", {"text": "from the other"})
        for client in (one, other):
            meta = {"channel": "lobby", "client": True}
            self.assertEqual(client.next("chat message"), ["Grüezi", meta])
            self.assertEqual(client.next("chat message"), [{"text": "from the other"}, meta])

    def test_a_message_on_a_channel_reaches_the_others_there(self):
        one, other = self.connect(), self.connect()
        for client in (one, other):
            auth = self.sdk.authenticate("private-room", client.id)
            self.assertEqual(client.ask("join", "private-room", auth), {"ok": True})
        self.assertEqual(one.ask("typing", True, {"channel": "private-room"}), {"ok": True})
        self.assertEqual(other.next("typing"), [True, {"channel": "private-room", "client": True}])

    def test_binary_data_is_refused_and_the_connection_stays(self):
        client = self.connect()
        answer = client.ask("upload", b"\x00\x01")
        self.assertFalse(answer["ok"])
        self.assertRegex(answer["error"]["message"], "[Bb]inary")
        self.assertEqual(client.ask("join", "news"), {"ok": True})

    def test_an_unknown_app_is_refused_with_the_reason(self):
        client = socketio.Client()
        with self.assertRaisesRegex(socketio.exceptions.ConnectionError, "nokey"):
            client.connect(self.server.url, namespaces=["/nokey"], retry=False)

    def test_a_client_comes_back_after_a_restart_and_takes_no_argument_more(self):
        server = Server(APP)
        self.addCleanup(server.stop)
        client = self.connect(server)
        client.ask("join", "news")
        client.next("connect")
        server.restart()
        client.next("connect")
        self.assertEqual(client.ask("join", "news"), {"ok": True})
        sdk(server).trigger("news", "headline", "back")
        self.assertEqual(client.next("headline"), ["back", {"channel": "news"}])


if __name__ == "__main__":
    unittest.main(verbosity=2)

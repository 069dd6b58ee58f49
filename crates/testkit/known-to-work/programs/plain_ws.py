"""A plain WebSocket of docs/any-client.md through a library of Python, which TARGET names, with positions.

Each function below connects, calls `opened()` for the text to send, `got(text)` for each text that arrives, and returns or raises
once the connection is over. The loop at the end comes back.
"""

import asyncio
import json
import os
import time
from urllib.parse import urlsplit

TARGET = json.loads(os.environ["TARGET"])
URL = TARGET["socket"]
position = None


def opened():
    recover = {"position": position} if position else True
    return json.dumps({"type": "subscribe", "channel": "kept-news", "recover": recover})


def got(text):
    global position
    print(text, flush=True)
    message = json.loads(text)
    if message.get("channel") != "kept-news":
        return
    if message["event"] == "pusher:subscription_succeeded" and not message["data"].get("recovered"):
        position = message["data"]["position"]
    position = message.get("position", position)


def websockets():
    import websockets

    async def run():
        async with websockets.connect(URL) as socket:
            await socket.send(opened())
            async for text in socket:
                got(text)

    asyncio.run(run())


def websockets_sync():
    from websockets.sync.client import connect

    with connect(URL) as socket:
        socket.send(opened())
        for text in socket:
            got(text)


def websocket_client():
    import websocket

    app = websocket.WebSocketApp(
        URL,
        on_open=lambda socket: socket.send(opened()),
        on_message=lambda socket, text: got(text),
        on_close=lambda socket, code, reason: print("closed", code, reason, flush=True),
    )
    app.run_forever()


def websocket_client_plain():
    import websocket

    socket = websocket.create_connection(URL)
    socket.send(opened())
    while text := socket.recv():
        got(text)


def aiohttp():
    import aiohttp

    async def run():
        async with aiohttp.ClientSession() as session, session.ws_connect(URL) as socket:
            await socket.send_str(opened())
            async for message in socket:
                got(message.data)
            print("closed", socket.close_code, flush=True)

    asyncio.run(run())


def httpx_ws():
    from httpx_ws import connect_ws

    with connect_ws(URL.replace("ws:", "http:", 1)) as socket:
        socket.send_text(opened())
        while True:
            # It has no wait without an end.
            got(socket.receive_text(timeout=None))


def tornado():
    from tornado.websocket import websocket_connect

    async def run():
        socket = await websocket_connect(URL)
        await socket.write_message(opened())
        while (text := await socket.read_message()) is not None:
            got(text)
        print("closed", socket.close_code, flush=True)

    asyncio.run(run())


def autobahn():
    from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol

    async def run():
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        class Client(WebSocketClientProtocol):
            def onOpen(self):
                self.sendMessage(opened().encode())

            def onMessage(self, payload, isBinary):
                got(payload.decode())

            def onClose(self, wasClean, code, reason):
                print("closed", code, reason, flush=True)
                over.done() or over.set_result(None)

        factory = WebSocketClientFactory(URL)
        factory.protocol = Client
        await loop.create_connection(factory, TARGET["host"], TARGET["port"])
        await over

    asyncio.run(run())


def lomond():
    from lomond import WebSocket

    socket = WebSocket(URL)
    for event in socket:
        if event.name == "ready":
            socket.send_text(opened())
        elif event.name == "text":
            got(event.text)
        else:
            print(event.name, flush=True) if event.name not in ("poll", "ping", "pong") else None


def picows():
    import picows

    class Client(picows.WSListener):
        def on_ws_connected(self, transport):
            transport.send(picows.WSMsgType.TEXT, opened().encode())

        def on_ws_frame(self, transport, frame):
            if frame.msg_type == picows.WSMsgType.TEXT:
                got(frame.get_payload_as_utf8_text())
            elif frame.msg_type == picows.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code())
                transport.disconnect()

    async def run():
        transport, _ = await picows.ws_connect(Client, URL)
        await transport.wait_disconnected()

    asyncio.run(run())


def simple_websocket():
    import simple_websocket

    socket = simple_websocket.Client(URL)
    socket.send(opened())
    while True:
        got(socket.receive())


def trio_websocket():
    import trio
    from trio_websocket import open_websocket_url

    async def run():
        async with open_websocket_url(URL) as socket:
            await socket.send_message(opened())
            while True:
                got(await socket.get_message())

    trio.run(run)


def ws4py():
    from ws4py.client.threadedclient import WebSocketClient

    class Client(WebSocketClient):
        def opened(self):
            self.send(opened())

        def received_message(self, message):
            got(str(message))

        def closed(self, code, reason=None):
            print("closed", code, reason, flush=True)

    socket = Client(URL)
    socket.connect()
    socket.run_forever()


def wsproto():
    import socket as sockets

    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

    parts = urlsplit(URL)
    connection = WSConnection(ConnectionType.CLIENT)
    with sockets.create_connection((parts.hostname, parts.port)) as plain:
        plain.sendall(connection.send(Request(host=parts.netloc, target=f"{parts.path}?{parts.query}")))
        text = ""
        while data := plain.recv(65536):
            connection.receive_data(data)
            for event in connection.events():
                if isinstance(event, AcceptConnection):
                    plain.sendall(connection.send(TextMessage(data=opened())))
                elif isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        got(text)
                        text = ""
                elif isinstance(event, (Ping, CloseConnection)):
                    plain.sendall(connection.send(event.response()))


def niquests():
    import niquests

    with niquests.Session() as session:
        socket = session.get(URL).extension
        socket.send_payload(opened())
        while (text := socket.next_payload()) is not None:
            got(text)


def curl_cffi():
    from curl_cffi import WebSocket

    WebSocket(
        on_open=lambda socket: socket.send_str(opened()),
        on_message=lambda socket, text: got(text.decode() if isinstance(text, bytes) else text),
        on_error=lambda socket, error: print("error", error, flush=True),
        on_close=lambda socket, code, reason: print("closed", code, reason, flush=True),
    ).run_forever(URL)


while True:
    try:
        globals()[TARGET["library"]]()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    time.sleep(1)

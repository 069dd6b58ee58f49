"""The clients of Pusher's protocol in Python, as their READMEs use them. TARGET names one."""

import asyncio
import json
import logging
import os
import sys
import time
import urllib.parse
import urllib.request

TARGET = json.loads(os.environ["TARGET"])
HOST, PORT, KEY = TARGET["host"], TARGET["port"], TARGET["key"]
# What they log goes to people.
logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


def show(event, channel, data):
    print(json.dumps({"event": event, "channel": channel, "data": data}), flush=True)


def listen(channel, name):
    """Binds to a channel of the clients with threads, which hand out data as the text that was sent."""
    channel.bind("pusher_internal:subscription_succeeded", lambda data: show("pusher:subscription_succeeded", name, data))
    channel.bind("tick", lambda data: show("tick", name, data))


def pysher():
    import pysher

    pusher = pysher.Pusher(
        KEY, custom_host=HOST, port=PORT, secure=False, secret=TARGET["secret"], user_data={"user_id": "ada"}
    )

    # Called on each connection, so that channels come back with a signature of that connection.
    def connected(_data):
        for name in TARGET["channels"]:
            listen(pusher.subscribe(name), name)

    pusher.connection.bind("pusher:connection_established", connected)
    pusher.connect()


def pusherclient(module="pusherclient"):
    library = __import__(module)
    library.Pusher.host = HOST
    pusher = library.Pusher(KEY, secure=False, port=PORT, secret=TARGET["secret"], user_data={"user_id": "ada"})

    def connected(_data):
        for name in TARGET["channels"]:
            listen(pusher.subscribe(name), name)

    pusher.connection.bind("pusher:connection_established", connected)
    pusher.connect()


def pusherclientb():
    pusherclient("pusherclientb")


def asyncpusher():
    from asyncpusher.pusher import Pusher

    async def authenticate(data):
        form = urllib.parse.urlencode(data).encode()
        ask = lambda: urllib.request.urlopen(TARGET["auth"], form).read()
        return json.loads(await asyncio.to_thread(ask))

    async def run():
        pusher = Pusher(
            KEY, custom_host=HOST, custom_port=PORT, secure=False, auto_sub=True, channel_authenticator=authenticate
        )
        ready = asyncio.Event()

        async def connected(_data):
            ready.set()

        pusher.connection.bind("pusher:connection_established", connected)
        await pusher.connect()
        await ready.wait()
        for name in TARGET["channels"]:
            channel = await pusher.subscribe(name)

            async def succeeded(data, name=name):
                show("pusher:subscription_succeeded", name, data)

            async def tick(data, name=name):
                show("tick", name, data)

            channel.bind("pusher_internal:subscription_succeeded", succeeded)
            channel.bind("tick", tick)
        await asyncio.Event().wait()

    asyncio.run(run())


def pysherasync():
    from pysherasync import PusherAsyncClient

    async def run():
        pusher = PusherAsyncClient(KEY, custom_host=HOST, port=PORT, secure=False)
        socket = await pusher.connect()
        for name in TARGET["channels"]:
            # It takes what comes next for the answer, and returns nothing after an exception.
            if await pusher.subscribe(channel_name=name):
                show("pusher:subscription_succeeded", name, None)
        while True:
            message = json.loads(await socket.recv())
            show(message["event"], message.get("channel"), message["data"])

    asyncio.run(run())


globals()[TARGET["library"]]()
while True:
    time.sleep(60)

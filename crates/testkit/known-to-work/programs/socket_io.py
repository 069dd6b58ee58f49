"""python-socketio: with its defaults. It joins the channels on each connection, with the last position that it had."""

import json
import os
import sys
import urllib.parse
import urllib.request

import socketio

TARGET = json.loads(os.environ["TARGET"])
NAMESPACE = f"/{TARGET['key']}"
positions = {}
client = socketio.Client()


# Each event is handled in a thread of its own, and `print` writes a line in two parts.
def show(event, channel, data):
    sys.stdout.write(json.dumps({"event": event, "channel": channel, "data": data}) + "\n")
    sys.stdout.flush()


def authorize(name):
    if not name.startswith(("private-", "presence-")):
        return {}
    form = urllib.parse.urlencode({"socket_id": client.get_sid(NAMESPACE), "channel_name": name})
    return json.loads(urllib.request.urlopen(TARGET["auth"], form.encode()).read())


@client.on("connect", namespace=NAMESPACE)
def connected():
    for name in TARGET["channels"]:
        recover = {"position": positions[name]} if name in positions else True
        client.emit("join", (name, {**authorize(name), "recover": recover}), namespace=NAMESPACE)


@client.on("pusher:subscription_succeeded", namespace=NAMESPACE)
def subscribed(data, about):
    if not data.get("recovered"):
        positions[about["channel"]] = data.get("position")
    show("pusher:subscription_succeeded", about["channel"], data)


# With connectionStateRecovery Socket.IO adds the offset to the arguments.
@client.on("tick", namespace=NAMESPACE)
def tick(data, about, *_offset):
    positions[about["channel"]] = about.get("position", positions.get(about["channel"]))
    show("tick", about["channel"], data)


client.connect(TARGET["url"], namespaces=[NAMESPACE])
client.wait()

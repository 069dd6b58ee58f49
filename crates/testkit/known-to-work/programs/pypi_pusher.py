"""PyPI pusher."""

import json
import os
import sys

import pusher

TARGET = json.loads(os.environ["TARGET"])
client = pusher.Pusher(
    app_id=TARGET["id"], key=TARGET["key"], secret=TARGET["secret"], host=TARGET["host"], port=TARGET["port"], ssl=False
)


def offered(name):
    return getattr(client, name, None)


def call(call, **about):
    if call == "trigger":
        client.trigger(about["channels"], about["event"], about["data"], about.get("socketId"))
    elif call == "batch":
        client.trigger_batch(about["batch"])
    elif call == "channels":
        return client.channels_info(about["prefix"], attributes=about["info"].split(","))
    elif call == "channel":
        return client.channel_info(about["channel"], attributes=about["info"].split(","))
    elif call == "members":
        return client.users_info(about["channel"])
    elif call == "authorize":
        name = about["channelName"]
        user = about["user"] if name.startswith("presence-") else None
        return client.authenticate(channel=name, socket_id=about["socketId"], custom_data=user)
    elif call == "authenticate":
        if not offered("authenticate_user"):
            return {"notOffered": True}
        return client.authenticate_user(socket_id=about["socketId"], user_data={"id": about["user"]["user_id"]})
    elif call == "sendToUser":
        client.send_to_user(about["user"], about["event"], about["data"])
    elif call == "terminate":
        if not offered("terminate_user_connections"):
            return {"notOffered": True}
        client.terminate_user_connections(about["user"])
    elif call == "webhook":
        headers = about["headers"]
        webhook = client.validate_webhook(headers["x-pusher-key"], headers["x-pusher-signature"], about["body"])
        return {"valid": webhook is not None}
    return {}


try:
    answer = call(**json.loads(sys.argv[1]))
except Exception as error:
    answer = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(answer))

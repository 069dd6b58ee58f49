"""What schemathesis has to know of the server: how requests are signed, and what would lock the run itself out."""

import base64
import hashlib
import hmac
import json
import os
import time
from urllib.parse import parse_qsl, urlsplit

import requests
import schemathesis

RUN = json.loads(os.environ["FANFARE_OPENAPI_RUN"])


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw["operationId"]
    path, body = case.path_parameters or {}, case.body
    well_formed = case.meta is None or case.meta.generation.mode.is_positive
    if well_formed:
        # Else hardly a request would get further than "there is no such app".
        if "app_id" in path:
            path["app_id"] = RUN["app"]["app_id"]
        if "key" in path and operation.startswith("authorize_own"):
            path["key"] = RUN["app"]["key"]
        # Only one that the server has given is a cursor, or a position.
        for given in ("cursor", "before", "after"):
            (case.query or {}).pop(given, None)
        if isinstance(body, dict):
            case.body = body = whole(body)
            # A schema can't say that no rule stands behind one for the same channels.
            settings = body.get("settings")
            if isinstance(settings, dict) and isinstance(settings.get("history"), list):
                settings["history"] = settings["history"][:1]
            # Nor what is a URL of a database, and that only one of Redis goes with a stream. Nothing listens at this one.
            if operation == "set_outbox":
                body["url"] = "redis://127.0.0.1:1"
            # The most events of a batch are a setting of the app, and names are bounded in bytes.
            if isinstance(body.get("batch"), list):
                body["batch"] = body["batch"][:10]
                for event in body["batch"]:
                    if isinstance(event, dict) and isinstance(event.get("name"), str):
                        event["name"] = event["name"][:50]
            # Rights are on apps that exist.
            if isinstance(body.get("apps"), list):
                body["apps"] = [RUN["app"]["app_id"]] if body["apps"] else []
            if isinstance(body.get("expires_at"), int):
                body["expires_at"] = max(body["expires_at"], int(time.time() + 60) * 1000)
    # Else the answer would not end.
    if operation == "watch_live_events":
        case.query = {"follow": "false", **(case.query or {})}
        if well_formed:
            case.query["follow"] = "false"
    # The rest keeps the run signed in. Its own session must not end,
    if operation == "end_session" and path.get("session_id") in ("current", RUN.get("session")):
        path["session_id"] = "another"
    # nor its operator lose rights or password,
    if path.get("operator_id") == RUN.get("operator"):
        path["operator_id"] = "another"
    # the app go that most requests are about,
    if operation == "delete_app" and path.get("app_id") == RUN["app"]["app_id"]:
        path["app_id"] = "another"
    # nor the keys that sign its token be taken away.
    if operation == "rotate_signing_keys" and isinstance(body, dict) and isinstance(body.get("keep_old_for"), int):
        if 0 <= body["keep_old_for"] < 3600:
            body["keep_old_for"] += 3600


def whole(value):
    """JSON Schema takes 7.0 for an integer; the server wants an integer written as one."""
    if isinstance(value, dict):
        return {name: whole(part) for name, part in value.items()}
    if isinstance(value, list):
        return [whole(part) for part in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value


class Signed(requests.auth.AuthBase):
    """Signs like the SDKs; what clients ask themselves has a token of the app's identity provider instead."""

    def __call__(self, request):
        url = urlsplit(request.url)
        if url.path.startswith("/app/"):
            request.headers["Authorization"] = f"Bearer {end_user_token()}"
            return request
        query = [(name.lower(), value) for name, value in parse_qsl(url.query, keep_blank_values=True)]
        query += [
            ("auth_key", RUN["app"]["key"]),
            ("auth_timestamp", str(int(time.time()))),
            ("auth_version", "1.0"),
        ]
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        if body:
            query.append(("body_md5", hashlib.md5(body).hexdigest()))
        query.sort(key=lambda pair: pair[0])
        text = "\n".join([request.method, url.path, "&".join(f"{name}={value}" for name, value in query)])
        signature = hmac.new(RUN["app"]["secret"].encode(), text.encode(), hashlib.sha256).hexdigest()
        request.prepare_url(url._replace(query="").geturl(), [*query, ("auth_signature", signature)])
        return request


def end_user_token():
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    claims = {"sub": "ada", "exp": int(time.time()) + 600}
    header = {"alg": "HS256", "typ": "JWT"}
    text = ".".join(part(json.dumps(it).encode()) for it in (header, claims))
    return f"{text}.{part(hmac.new(RUN['identity'].encode(), text.encode(), hashlib.sha256).digest())}"


if RUN["signed"]:
    schemathesis.auth.set_from_requests(Signed())

"""A stream of docs/any-client.md through a library of Python, which TARGET names. A stream that has ended is opened again with the last
id, as the page says."""

import asyncio
import json
import os
import time
import urllib.parse

TARGET = json.loads(os.environ["TARGET"])
last_id = None


def url():
    return TARGET["stream"] + (f"&last_event_id={urllib.parse.quote(last_id)}" if last_id else "")


def got(data, event_id):
    global last_id
    last_id = event_id or last_id
    # Some hand out comments and `retry:` as events without data.
    if data:
        print(data, flush=True)


def httpx_sse():
    import httpx
    import httpx_sse

    with httpx.Client(timeout=None) as client, httpx_sse.connect_sse(client, "GET", url()) as source:
        for event in source.iter_sse():
            got(event.data, event.id)


def sseclient():
    import sseclient

    for event in sseclient.SSEClient(url()):
        got(event.data, event.id)


def sseclient_py():
    import requests
    import sseclient

    for event in sseclient.SSEClient(requests.get(url(), stream=True)).events():
        got(event.data, event.id)


def requests_sse():
    from requests_sse import EventSource

    with EventSource(url(), timeout=None) as source:
        for event in source:
            got(event.data, event.last_event_id)


def aiohttp_sse_client(module="aiohttp_sse_client"):
    import importlib

    client = importlib.import_module(f"{module}.client")

    async def run():
        async with client.EventSource(url()) as source:
            async for event in source:
                got(event.data, event.last_event_id)

    asyncio.run(run())


def aiohttp_sse_client2():
    aiohttp_sse_client("aiohttp_sse_client2")


def aiosseclient():
    from aiosseclient import aiosseclient as stream

    async def run():
        async for event in stream(url()):
            got(event.data, event.id)

    asyncio.run(run())


def niquests():
    import niquests

    with niquests.Session() as session:
        response = session.get(url().replace("http:", "psse:", 1))
        while (event := response.extension.next_payload()) is not None:
            got(event.data, event.id)


while True:
    try:
        globals()[TARGET["library"]]()
        print("ended", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    time.sleep(1)

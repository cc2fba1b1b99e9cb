"""A small client of the OpenAI dialect, for tests of the double itself: it hides nothing of what arrives."""

import json
from contextlib import AbstractAsyncContextManager

import aiohttp

from tests.upstream.server import ScriptedUpstream

TIMEOUT = aiohttp.ClientTimeout(total=20)


def open_client(upstream: ScriptedUpstream) -> aiohttp.ClientSession:
    """Open a session whose relative URLs start at the upstream's base URL."""
    return aiohttp.ClientSession(f"{upstream.base_url}/", timeout=TIMEOUT)


def ask(client: aiohttp.ClientSession, **options: object) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """Ask for a completion; options are members of the body."""
    body = {"model": "m", "messages": [{"role": "user", "content": "three plain words"}]} | options
    return client.post("chat/completions", json=body)


def ask_stream(client: aiohttp.ClientSession, **options: object) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    """Ask for a stream with usage."""
    return ask(client, stream=True, stream_options={"include_usage": True}, **options)


def read_data(raw: str) -> list[str]:
    """Return the data of each event, of one line each, whatever the line ending."""
    lines = [line for line in raw.splitlines() if line.startswith("data:")]
    return [line.removeprefix("data:").lstrip() for line in lines]


def join_text(events: list[str]) -> str:
    """Return the content that chunks add up to, of all choices."""
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)


async def read_until_cut(response: aiohttp.ClientResponse) -> bytes:
    """Return the bytes that arrive before the connection breaks. Raises AssertionError when it does not."""
    seen = b""
    try:
        async for piece in response.content.iter_any():
            seen += piece
    except aiohttp.ClientError:
        return seen
    raise AssertionError("the body ended as if it were whole")

"""Every operation of the OpenAPI document, asked in ways that nobody meant: answered with what the document says."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import aiohttp
import pytest

from keys.scopes import Scope
from tests.flows.platform import Caller, Platform
from tests.flows.wire import chat_body, open_client

NO_NAMES = ("none", "a%00b", "%F0%9F%98%80", "..%2F..%2Fetc", "x" * 300)
VALUES = ("", "0", "-1", "1e400", "9" * 40, "2026-13-45", "null", "%00", "'; --", "😀", "true")
BODIES = (
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"\xff\xfe",
    b"{}",
    b'{"\\u0000": "\\ud800"}',
    b'{"a": 1e999}',
    b'{"name": null, "model": [], "messages": {}, "inputs": 7, "version": {}, "overlap": -1, "reason": []}',
    b'{"name": "a\\u0000b", "model": "a\\u0000b", "messages": [null], "inputs": {"a": "\\ud800"}}',
    b'{"version": "a\\u0000b", "overlap": "a\\u0000b", "reason": "a\\u0000b", "inputs": {"\\u0000": 1}}',
    b'{"name": 12345678901234567890123456789012345678901234567890, "model": "m", "messages": [{"role": "x"}]}',
    b'{"name": "w", "scopes": ["\\ud800"], "limits": {"requests_per_minute": "1e9"}, "expires_at": "9999-99-99"}',
    b"[" * 5_000,
    b'{"a":' * 5_000,
)


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller(scopes=list(Scope), credit_usd="1000")


async def read_document(client: aiohttp.ClientSession, platform: Platform, caller: Caller) -> dict[str, Any]:
    async with client.get(f"{platform.server.base_url}/openapi.json", headers=caller.headers) as response:
        document: dict[str, Any] = await response.json()
    return document


def operations_of(document: dict[str, Any], method: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        if method in methods:
            yield path, methods[method]


def fill(path: str, name: str) -> str:
    return "/".join(name if part.startswith("{") else part for part in path.split("/"))


async def check(response: aiohttp.ClientResponse, operation: dict[str, Any]) -> None:
    """Check that an answer is one of those that the document names for its operation."""
    where, text = f"{response.method} {response.url}", await response.text()
    assert response.status < 500, f"{where}: {text}"
    documented = operation["responses"].get(str(response.status))
    # A name that does not fit its path is a path that does not exist.
    assert documented is not None or response.status == 404, f"{where}: {text}"
    assert response.headers["x-request-id"], where
    if response.status >= 400:
        error = json.loads(text)["error"]
        assert error["code"] in {"not_found", *(documented or {}).get("x-error-codes", ())}, f"{where}: {text}"
        assert error["request_id"] == response.headers["x-request-id"]


async def test_odd_names_and_parameters_are_answered_as_documented(platform: Platform, caller: Caller) -> None:
    async with open_client() as client:
        for path, operation in operations_of(await read_document(client, platform, caller), "get"):
            queries = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
            asked = [fill(path, name) for name in (NO_NAMES if "{" in path else ("-",))]
            asked += [f"{fill(path, 'none')}?{name}={value}" for name in queries for value in VALUES]
            for target in asked:
                async with client.get(f"{platform.server.root_url}{target}", headers=caller.headers) as response:
                    await check(response, operation)


async def test_odd_bodies_are_answered_as_documented(platform: Platform, caller: Caller) -> None:
    headers, numbers = caller.headers | {"content-type": "application/json"}, count()
    async with open_client() as client:
        for path, operation in operations_of(await read_document(client, platform, caller), "post"):
            bodies = [*BODIES, json.dumps(chat_body(caller, tools=[{}], n=-1)).encode()]
            for target, body in [(fill(path, "none"), body) for body in bodies] + [
                (fill(path, name), b"{}") for name in NO_NAMES
            ]:
                url = f"{platform.server.root_url}{target}"
                # A key each, so that they are read and answered by way of the keeping of answers as well.
                key = {"idempotency-key": f"walk-{next(numbers)}"}
                async with client.post(url, data=body, headers=headers | key) as response:
                    await check(response, operation)

"""Guessing keys is answered 429 after a while, on every transport; a right key from the same address still works."""

import http.client
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from websockets.sync.client import connect

from keys.issuing import revoke_key
from tests.flows.platform import Caller, Platform
from tests.flows.wire import chat_body

LIMIT = 4


@pytest.fixture
def guarded(own_platform: Callable[..., Platform]) -> Platform:
    return own_platform(FAILED_ATTEMPTS_PER_MINUTE=str(LIMIT), BEHIND_TLS_PROXY="true")


@pytest.fixture
def address() -> str:
    """Return an address whose failures nobody else's test counts on a shared cache."""
    return f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"


def ask(platform: Platform, caller: Caller, address: str, *, token: str | None) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", platform.server.port, timeout=20)
    headers = {"x-forwarded-for": f"203.0.113.9, {address}", "content-type": "application/json"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(caller)), headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    found = {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return answer.status, found, body


def without_numbers(body: Any) -> Any:
    return {**body["error"], "request_id": ""}


def test_unknown_revoked_malformed_and_missing_keys_get_the_same_answer(guarded: Platform, address: str) -> None:
    caller, ended = guarded.make_caller(), guarded.make_caller()
    assert ask(guarded, ended, "192.0.2.1", token=ended.token)[0] == 200
    guarded.run(revoke_key, key_id=ended.key_id, reason="leaked")
    unknown = caller.token[:-7] + ("a" if caller.token[-7] != "a" else "b") + caller.token[-6:]
    answers = [ask(guarded, caller, address, token=token) for token in (unknown, ended.token, "nonsense", None)]
    assert {status for status, _, _ in answers} == {401}
    assert all(without_numbers(body) == without_numbers(answers[0][2]) for _, _, body in answers)
    names = [set(headers) for _, headers, _ in answers]
    assert all(found == names[0] for found in names)

    # The fifth failure of this minute: 429, on HTTP and on the WebSocket.
    status, headers, body = ask(guarded, caller, address, token="nonsense")
    assert (status, body["error"]["code"]) == (429, "too_many_failed_authentications")
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-should-retry"] == "false"
    with connect(guarded.server.socket_url, additional_headers={"x-forwarded-for": address}) as socket:
        socket.send(json.dumps({"type": "auth", "api_key": "nonsense"}))
        assert json.loads(socket.recv())["error"]["code"] == "too_many_failed_authentications"

    # Neither the right key, nor another address, pays for it.
    assert ask(guarded, caller, address, token=caller.token)[0] == 200
    assert ask(guarded, caller, "192.0.2.2", token="nonsense")[0] == 401

"""Every error of the tree in every form that a client can meet: HTTP, REST, event streams, WebSocket, and the SDK's."""

import re
from collections.abc import MutableMapping
from typing import Any

import httpx2
import openai
import orjson
import pytest

from common.errors import AuthenticationFailed, TollkeeperError
from gateway.calls import Exchange
from gateway.errors import ClientStalled
from gateway.operations import CHAT_COMPLETIONS, PROMPT_RUNS
from gateway.rest.errors import render_exception
from gateway.streams.pulse import Pulse
from gateway.transports.http import HttpSink
from gateway.transports.runs import RunSink
from gateway.transports.websocket import SocketSink
from platform_site.reference import sdk_exception
from tests.contracts.error_examples import SECRET, every_error, has_own_words, is_documented, make_example

ERRORS = every_error()
TEMPORARY = {409, 429, 502, 503, 504}
# Repeating the same call cannot help, whatever class of status says so. Of 408 the client is the cause, of 500 we are.
PERMANENT = {400, 401, 402, 403, 404, 405, 413, 422, 499}
# A sentence that ends at what went wrong leaves its reader alone: each names something to do.
ADVICE = re.compile(
    r"\b(add|allow|ask|call|change|check|choose|come|correct|edit|fix|give|have|issue|look|lower|make|move|name|open|"
    r"pin|raise|read|remove|retry|run|send|set|shorten|tell|use|wait|widen)\b",
    re.IGNORECASE,
)
MODEL = "a-model"
FIRST_CHUNK: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "amber"}, "finish_reason": None}],
}
every_kind = pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)


class Wire:
    """The server's end of a connection that keeps what is sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self.body += message.get("body", b"")

    def open_client(self) -> openai.OpenAI:
        """Return a stock client that is answered with what was sent."""

        def answer(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(self.status, headers=self.headers, content=self.body, request=request)

        http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
        return openai.OpenAI(api_key="tk", base_url="http://platform/v1", max_retries=0, http_client=http_client)


class Socket:
    """Stands for the consumer of a WebSocket."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def send_event(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def end_call(self, call_id: str) -> None:
        """Forget a call."""


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(operation=CHAT_COMPLETIONS, token="tk", raw_body=b"")


@every_kind
def test_an_error_says_what_to_do_and_whether_a_repeat_helps(kind: type[TollkeeperError]) -> None:
    error = make_example(kind)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", kind.code)
    assert kind.summary.endswith(".")
    assert error.message.endswith(".") or not has_own_words(kind)
    assert ADVICE.search(error.message) or not has_own_words(kind), error.message
    assert not (kind.status in PERMANENT and kind.retryable)
    assert not (kind.retryable and kind.status in TEMPORARY and has_own_words(kind) and not error.retry_after_seconds)
    # What waiting does not cure has no time to wait for; but for guessing keys, which may go on after a while.
    assert not (error.retry_after_seconds and not kind.retryable) or issubclass(kind, AuthenticationFailed)


def test_a_code_has_one_meaning() -> None:
    owners: dict[str, type[TollkeeperError]] = {}
    for kind in ERRORS:
        assert is_documented(kind), f"name {kind.__module__} in platform_site.reference.ERROR_MODULES"
        first = owners.setdefault(kind.code, kind)
        assert issubclass(kind, first)
        assert kind.status == first.status


@every_kind
async def test_over_http_it_is_the_sdks_exception_with_a_reference_and_without_internals(
    kind: type[TollkeeperError], exchange: Exchange
) -> None:
    error, wire = make_example(kind), Wire()
    await HttpSink(wire.send, stall_seconds=1).fail(exchange, error, None)
    if isinstance(error, ClientStalled):
        assert wire.status == 0
        return
    with wire.open_client() as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a"}])
    raised = caught.value
    assert type(raised).__name__ == sdk_exception(kind)
    assert (raised.status_code, raised.code, raised.type, raised.param) == (
        kind.status,
        kind.code,
        kind.type,
        error.param,
    )
    assert raised.request_id == exchange.request_id
    assert isinstance(raised.body, dict)
    assert raised.body["request_id"] == exchange.request_id
    assert raised.body["retryable"] is kind.retryable
    assert raised.body.get("retry_after_seconds") == error.retry_after_seconds
    headers = raised.response.headers
    assert headers.get("retry-after") == (str(error.retry_after_seconds) if error.retry_after_seconds else None)
    assert headers["x-should-retry"] in {"false", str(kind.retryable).lower()}
    assert ("www-authenticate" in headers) == isinstance(error, AuthenticationFailed)
    assert SECRET not in f"{wire.headers}{wire.body.decode()}"


@every_kind
def test_the_control_plane_answers_with_the_same(kind: type[TollkeeperError], exchange: Exchange) -> None:
    error = make_example(kind)
    answer = render_exception(error, {})
    request_id = answer.headers["x-request-id"]
    assert answer.status_code == kind.status
    assert answer.data == error.as_body(request_id=request_id)
    assert answer.headers.items() >= error.headers().items()
    assert SECRET not in f"{answer.data}{dict(answer.headers)}"


@every_kind
async def test_inside_a_stream_it_is_the_last_event_and_raised_while_reading(
    kind: type[TollkeeperError], exchange: Exchange
) -> None:
    error, wire = make_example(kind), Wire()
    sink = HttpSink(wire.send, stall_seconds=1)
    await sink.begin(exchange)
    await sink.send_chunks([(orjson.dumps(FIRST_CHUNK), FIRST_CHUNK)])
    await sink.fail(exchange, error, None)
    if isinstance(error, ClientStalled):
        return
    with (
        wire.open_client() as client,
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a"}], stream=True) as stream,
    ):
        assert next(stream).choices[0].delta.content == "amber"
        with pytest.raises(openai.APIError) as caught:
            next(stream)
    raised = caught.value
    assert type(raised) is openai.APIError
    assert (raised.code, raised.type, raised.message) == (kind.code, kind.type, error.message)
    assert isinstance(raised.body, dict)
    assert raised.body["request_id"] == exchange.request_id
    assert raised.body.get("retry_after_seconds") == error.retry_after_seconds
    assert b"[DONE]" not in wire.body
    assert SECRET not in wire.body.decode()


@every_kind
async def test_in_the_stream_of_a_prompt_run_it_is_the_event_error(kind: type[TollkeeperError]) -> None:
    exchange = Exchange(operation=PROMPT_RUNS, token="tk", raw_body=b"", prompt_name="a-prompt", has_own_events=True)
    error, wire = make_example(kind), Wire()
    sink = RunSink(wire.send, Pulse(), stall_seconds=1)
    sink.has_begun = True
    await sink.fail(exchange, error, None)
    if isinstance(error, ClientStalled):
        assert wire.body == b""
        return
    lines = dict(line.split(": ", 1) for line in wire.body.decode().strip().split("\n"))
    assert lines["event"] == "error"
    assert orjson.loads(lines["data"]) == {
        **error.as_body(request_id=exchange.request_id),
        "finish_reason": "error",
    }
    assert SECRET not in wire.body.decode()


@every_kind
async def test_on_a_websocket_it_is_the_last_message_of_its_call(
    kind: type[TollkeeperError], exchange: Exchange
) -> None:
    error, socket = make_example(kind), Socket()
    if isinstance(error, ClientStalled):
        return
    consumer: Any = socket
    await SocketSink(consumer, "7", Pulse()).fail(exchange, error, None)
    assert socket.events == [
        {"type": "error", "id": "7", "seq": 0, **error.as_body(request_id=exchange.request_id)},
    ]
    assert SECRET not in str(socket.events)

"""Several calls at once on one WebSocket, each ended by exactly one message, and a close code for every end."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from billing.models import UsageSource, UsageStatus
from tests.flows.fixtures import shared_platform
from tests.flows.platform import Caller, Platform, in_thread, wait_for
from tests.flows.sockets import open_socket
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour, Inject, error

TEXT = "amber birch cedar delta "
# Of one stream, a client that reads nothing may make the server and the sockets hold so much.
BOUND_BYTES = 50_000_000


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


def read_text(deltas: list[Any]) -> str:
    return "".join(delta["data"]["choices"][0]["delta"].get("content") or "" for delta in deltas)


# ---- authentication


async def test_a_key_in_the_handshake_authenticates(platform: Platform, caller: Caller) -> None:
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller)
        assert (await socket.finish())[-1]["type"] == "done"


async def test_a_key_in_the_first_message_authenticates(platform: Platform, caller: Caller) -> None:
    async with open_socket(platform.server) as socket:
        await socket.send({"type": "auth", "api_key": caller.token})
        assert await socket.receive() == {"type": "ready"}
        await socket.call(caller)
        assert (await socket.finish())[-1]["type"] == "done"


async def test_a_wrong_key_in_the_handshake_is_told_and_closed(platform: Platform, caller: Caller) -> None:
    wrong = Caller(customer_id=0, key_id=0, token="tk_live_unknown", model=caller.model)
    async with open_socket(platform.server, wrong, expect_ready=False) as socket:
        assert (await socket.receive())["error"]["code"] == "invalid_api_key"
        assert await socket.wait_closed() == 4401


@pytest.mark.parametrize(
    "message", [{"type": "auth", "api_key": "tk_live_unknown"}, {"type": "auth"}, {"type": "call"}]
)
async def test_without_a_valid_key_nothing_is_done(platform: Platform, message: dict[str, str]) -> None:
    async with open_socket(platform.server) as socket:
        await socket.send(message)
        refused = await socket.receive()
        assert (refused["type"], refused["id"], refused["error"]["code"]) == ("error", None, "invalid_api_key")
        assert await socket.wait_closed() == 4401


@pytest.fixture(autouse=True, scope="module")
def close_code_of_silence(
    pytestconfig: pytest.Config, django_db_blocker: DjangoDbBlocker
) -> Iterator[Callable[[], int]]:
    """Open a socket that says nothing while the other tests run, so that none has to wait for it."""
    server = shared_platform(pytestconfig, django_db_blocker).server

    def say_nothing() -> int:
        with connect(server.socket_url, proxy=None) as connection:
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=30)
            assert connection.close_code is not None
            return connection.close_code

    with ExitStack() as stack:
        yield stack.enter_context(in_thread(say_nothing))


async def test_a_socket_that_does_not_authenticate_in_time_is_closed(
    close_code_of_silence: Callable[[], int],
) -> None:
    assert await asyncio.to_thread(close_code_of_silence) == 4408


async def test_no_other_path_takes_sockets(platform: Platform) -> None:
    with pytest.raises(Exception, match=r"403|404"), connect(f"{platform.server.socket_url}/other", proxy=None):
        pass


# ---- calls


async def test_a_call_is_started_streamed_and_done_with_usage_and_cost(platform: Platform, caller: Caller) -> None:
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller, "first")
        start, *deltas, done = await socket.finish()
    record = platform.settle_one(caller)
    assert {message["id"] for message in (start, *deltas, done)} == {"first"}
    assert (start["type"], start["request_id"], start["model"]) == ("start", record.request_id, caller.model)
    assert start["upstream"] == record.upstream
    assert {delta["type"] for delta in deltas} == {"delta"}
    assert [message["seq"] for message in (*deltas, done)] == list(range(len(deltas) + 1))
    assert read_text(deltas) == TEXT
    assert (done["type"], done["usage"]["total_tokens"]) == ("done", 7)
    assert done["tollkeeper"]["cost_usd"] == "0.000019"
    assert (record.status, record.is_stream) == (UsageStatus.COMPLETED, True)


async def test_calls_run_at_once_and_keep_their_ids(platform: Platform, caller: Caller) -> None:
    platform.upstream.set_default(Behaviour(hold_at=2), target=caller.model)
    async with open_socket(platform.server, caller) as socket:
        for call_id in ("a", "b", "c"):
            await socket.call(caller, call_id)
        await asyncio.to_thread(platform.release, n=3)
        messages = []
        for _ in range(3):
            messages += await socket.finish()
    for call_id in ("a", "b", "c"):
        own = [message for message in messages if message["id"] == call_id]
        assert [own[0]["type"], *{message["type"] for message in own[1:-1]}] == ["start", "delta"]
        assert own[-1]["type"] == "done"
        assert read_text(own[1:-1]) == TEXT
    assert len(platform.wait_for_usage(caller, 3)) == 3
    platform.assert_settled(caller)


async def test_a_cancelled_call_is_ended_billed_and_the_socket_goes_on(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(hold_at=2), target=caller.model)
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller)
        await socket.receive_until("delta")
        await socket.receive_until("delta")
        await socket.send({"type": "cancel", "id": "1"})
        cancelled = await socket.receive()
        assert (cancelled["type"], cancelled["error"]["code"]) == ("error", "call_cancelled")
        assert cancelled["tollkeeper"]["usage"]["output_tokens"] > 0
        await socket.send({"type": "cancel", "id": "1"})
        await socket.send({"type": "cancel", "id": "never was"})
        # The id is free again.
        await socket.call(caller)
        assert (await socket.finish())[-1]["type"] == "done"
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    first, _ = platform.wait_for_usage(caller, 2)
    assert (first.status, first.source) == (UsageStatus.CANCELLED, UsageSource.ESTIMATED)
    platform.assert_settled(caller)


async def test_an_error_ends_its_call_and_no_other(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(hold_at=2), error(500), target=caller.model)
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller, "good")
        await socket.receive_until("delta")
        await socket.receive_until("delta")
        await socket.call(caller, "failing")
        await socket.call(caller, "wrong", temperature="warm")
        await socket.send({"type": "call", "id": "bodyless"})
        codes = {}
        for _ in range(3):
            message = await socket.receive()
            codes[message["id"]] = message["error"]["code"]
        assert codes == {
            "failing": "upstream_error",
            "wrong": "invalid_body",
            "bodyless": "invalid_body",
        }
        await asyncio.to_thread(platform.release)
        done = (await socket.finish())[-1]
        assert (done["type"], done["id"]) == ("done", "good")


async def test_more_calls_than_a_socket_carries_are_refused_one_by_one(platform: Platform, caller: Caller) -> None:
    platform.upstream.set_default(Behaviour(hold_at="head"), target=caller.model)
    async with open_socket(platform.server, caller) as socket:
        for number in range(5):
            await socket.call(caller, str(number))
        refused = await socket.receive()
        assert (refused["id"], refused["error"]["code"]) == ("4", "too_many_calls_on_socket")
        assert refused["error"]["details"] == {"limit": 4}
        await asyncio.to_thread(platform.release, n=4)
        for _ in range(4):
            assert (await socket.finish())[-1]["type"] == "done"
        platform.upstream.reset()
        await socket.call(caller, "4")
        assert (await socket.finish())[-1]["type"] == "done"


# ---- what ends a socket


@pytest.mark.parametrize(
    "message",
    [
        "no JSON",
        "[]",
        b"\xff\xfe",
        {"type": "sing"},
        {},
        {"type": "call", "body": {}},
        {"type": "call", "id": "", "body": {}},
        {"type": "call", "id": 7, "body": {}},
        {"type": "call", "id": "x" * 101, "body": {}},
    ],
)
async def test_a_message_that_cannot_be_understood_is_told_and_closes_the_socket(
    platform: Platform, caller: Caller, message: object
) -> None:
    async with open_socket(platform.server, caller) as socket:
        await socket.send(message)
        refused = await socket.receive()
        assert (refused["type"], refused["id"], refused["error"]["type"]) == ("error", None, "invalid_request_error")
        assert await socket.wait_closed() == 4400


async def test_an_id_that_is_still_running_cannot_be_used_again(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(hold_at="head"), target=caller.model)
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller)
        await asyncio.to_thread(platform.upstream.wait_until_held)
        await socket.call(caller)
        assert "still running" in (await socket.receive())["error"]["message"]
        assert await socket.wait_closed() == 4400
    # The one that ran has been ended with its socket.
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert record.status == UsageStatus.CANCELLED


async def test_a_message_beyond_the_body_bound_ends_the_socket(platform: Platform, caller: Caller) -> None:
    async with open_socket(platform.server, caller) as socket:
        await socket.send(json.dumps({"type": "call", "id": "1", "body": "x" * 5_000_000}))
        # 1009: message too big (RFC 6455, section 7.4.1).
        assert await socket.wait_closed() in (1009, 4400)
    assert platform.read_usage(caller) == []


# ---- clients that do not read


async def check_given_up(platform: Platform, caller: Caller, resident_before: int) -> None:
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.status, record.error_code) == (UsageStatus.CANCELLED, "client_too_slow")
    assert record.source == UsageSource.ESTIMATED
    seen = await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    # An event is some 14 kB; unhindered, the upstream sends hundreds of megabytes in that time.
    assert seen.events_sent * 14_000 < BOUND_BYTES
    assert platform.server.resident_bytes() - resident_before < BOUND_BYTES
    # Nobody else has noticed.
    assert (await ask(platform.server, platform.make_caller())).status == 200


FLOOD = Behaviour(endless=True, tokens_per_event=2_500)
# So large that it is not the upstream's excess which ends the call.
LARGE: dict[str, Any] = {
    "context_window": 2_000_000,
    "max_output_tokens": 1_000_000,
    "default_output_tokens": 1_000_000,
}


@pytest.fixture
def patient(platform: Platform) -> Caller:
    return platform.make_caller(model=platform.make_model(**LARGE))


async def test_a_socket_that_is_not_read_slows_its_upstream_down_and_is_given_up(
    platform: Platform, patient: Caller
) -> None:
    platform.upstream.queue(FLOOD, target=patient.model)
    resident = platform.server.resident_bytes()
    # Uncompressed: repeated words would all fit into the sockets.
    async with open_socket(platform.server, patient, max_queue=1, compression=None) as socket:
        await socket.call(patient)
        await check_given_up(platform, patient, resident)
        await asyncio.to_thread(
            wait_for, lambda: not platform.server.has_connection_from(socket.port), what="the socket to be closed"
        )
        await socket.leave()


async def test_a_stream_that_is_not_read_slows_its_upstream_down_and_is_given_up(
    platform: Platform, patient: Caller
) -> None:
    platform.upstream.queue(FLOOD, target=patient.model)
    resident = platform.server.resident_bytes()
    async with await RawCall.start(platform.server, patient, stream=True) as call:
        call.stop_reading()
        await check_given_up(platform, patient, resident)
        await asyncio.to_thread(
            wait_for, lambda: not platform.server.has_connection_from(call.port), what="the connection to be closed"
        )


async def test_a_slow_reader_gets_everything(platform: Platform, patient: Caller) -> None:
    platform.upstream.queue(Behaviour(events=300, tokens_per_event=500), target=patient.model)
    async with open_socket(platform.server, patient, max_queue=1, compression=None) as socket:
        await socket.call(patient)
        start, *deltas, done = await socket.finish()
    assert (start["type"], done["type"], done["seq"]) == ("start", "done", len(deltas))
    assert len(read_text(deltas).split()) == 300 * 500


async def test_a_client_that_does_not_read_the_end_of_its_answer_is_given_up_after_it_was_settled(
    platform: Platform, patient: Caller
) -> None:
    # The first event fills the sockets' buffers, the second one the server's: only the end is left to be sent.
    events = []
    for position, reason in enumerate((None, "stop")):
        choice = {"index": 0, "delta": {"content": "x" * 3_900_000}, "finish_reason": reason}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        events.append(Inject(at=position, data=json.dumps(chunk)))
    platform.upstream.queue(Behaviour(events=0, finish_reason=None, inject=tuple(events)), target=patient.model)
    async with await RawCall.start(platform.server, patient, stream=True) as call:
        call.stop_reading()
        record = await asyncio.to_thread(platform.settle_one, patient)
        # Where the sockets take less, it is given up one event earlier.
        assert record.status in (UsageStatus.COMPLETED, UsageStatus.CANCELLED)
        await asyncio.to_thread(
            wait_for, lambda: not platform.server.has_connection_from(call.port), what="the connection to be closed"
        )

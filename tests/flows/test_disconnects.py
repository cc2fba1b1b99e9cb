"""A client that leaves pays for what was made for it, exactly once, whenever and however it leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from billing.models import UsageRecord, UsageSource, UsageStatus
from gateway.chat.counting import count_text
from gateway.models import OnDisconnect
from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.sockets import open_socket
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour, Outcome, Point, UsagePlace
from tests.upstream.answers import WORDS

EVENTS = 6
INPUT_TOKENS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When the client leaves: where the upstream holds, and how many deltas have been read by then."""

    hold_at: Point
    read: int


MOMENTS = {
    "first byte": Moment(hold_at=1, read=1),
    "middle": Moment(hold_at=4, read=4),
    # The finish event carries the usage.
    "last event": Moment(hold_at="done", read=EVENTS + 1),
}


class Client(Protocol):
    """One call in flight, and the port that it came from."""

    port: int

    async def leave(self) -> None: ...


@asynccontextmanager
async def calling(platform: Platform, caller: Caller, transport: str, read: int) -> AsyncIterator[Client]:
    """Make a call and read that many events of its answer."""
    async with AsyncExitStack() as stack:
        if transport == "websocket":
            socket = await stack.enter_async_context(open_socket(platform.server, caller))
            await socket.call(caller)
            seen = 0
            while seen < read:
                seen += count_events(await socket.receive())
            yield socket
            return
        call = await RawCall.start(platform.server, caller, stream=transport == "sse")
        stack.push_async_callback(call.leave)
        if read:
            await call.read_events(read)
        yield call


def count_events(message: dict[str, Any]) -> int:
    """Return how many of the upstream's events a message carries: deltas of text go out gathered."""
    if message["type"] != "delta":
        return 0
    (choice,) = message["data"]["choices"]
    return len((choice["delta"].get("content") or "").split()) + (choice.get("finish_reason") is not None)


async def leave(platform: Platform, client: Client) -> None:
    """Leave, and wait until the server has noticed."""
    await client.leave()
    await asyncio.to_thread(
        wait_for, lambda: not platform.server.has_connection_from(client.port), what="the server to notice"
    )


def make_caller(platform: Platform, on_disconnect: OnDisconnect) -> Caller:
    return platform.make_caller(model=platform.make_model(upstream={"on_disconnect": on_disconnect}))


def tokens(record: UsageRecord) -> tuple[int, int]:
    return record.input_tokens, record.output_tokens


@pytest.mark.parametrize("transport", ["sse", "websocket"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_with_stop_the_upstream_is_hung_up_on_and_what_was_relayed_is_billed(
    platform: Platform, transport: str, moment: str
) -> None:
    caller = make_caller(platform, OnDisconnect.STOP)
    where = MOMENTS[moment]
    platform.upstream.queue(
        Behaviour(events=EVENTS, hold_at=where.hold_at, usage_place=UsagePlace.FINISH_EVENT), target=caller.model
    )
    async with calling(platform, caller, transport, where.read) as client:
        await leave(platform, client)
    record = await asyncio.to_thread(platform.settle_one, caller)
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    assert (record.status, record.error_code) == (UsageStatus.CANCELLED, "call_cancelled")
    if moment == "last event":
        assert (record.source, tokens(record)) == (UsageSource.PROVIDER, (3, EVENTS))
    else:
        relayed = count_text("".join(f"{word} " for word in WORDS[: where.read]))
        assert (record.source, tokens(record)) == (UsageSource.ESTIMATED, (INPUT_TOKENS, relayed))
    assert record.charged_nanousd == record.input_tokens * 1_000 + record.output_tokens * 4_000


@pytest.mark.parametrize("transport", ["sse", "websocket"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_with_drain_the_upstream_is_read_to_its_end_and_its_own_figures_are_billed(
    platform: Platform, transport: str, moment: str
) -> None:
    caller = make_caller(platform, OnDisconnect.DRAIN)
    where = MOMENTS[moment]
    platform.upstream.queue(
        Behaviour(events=EVENTS, hold_at=where.hold_at, usage_place=UsagePlace.FINISH_EVENT), target=caller.model
    )
    async with calling(platform, caller, transport, where.read) as client:
        await leave(platform, client)
    assert platform.read_usage(caller) == []
    await asyncio.to_thread(platform.release)
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.status, record.source, tokens(record)) == (UsageStatus.CANCELLED, UsageSource.PROVIDER, (3, EVENTS))
    assert record.charged_nanousd == 3 * 1_000 + EVENTS * 4_000
    (seen,) = platform.requests_for(caller.model)
    assert seen.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("transport", ["json", "sse", "websocket"])
@pytest.mark.parametrize("hold_at", ["head", "first_event"])
async def test_with_stop_a_client_that_leaves_before_anything_came_is_billed_for_its_input(
    platform: Platform, transport: str, hold_at: Point
) -> None:
    caller = make_caller(platform, OnDisconnect.STOP)
    platform.upstream.queue(Behaviour(hold_at=hold_at), target=caller.model)
    async with calling(platform, caller, transport, 0) as client:
        await asyncio.to_thread(platform.upstream.wait_until_held)
        await leave(platform, client)
    record = await asyncio.to_thread(platform.settle_one, caller)
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    # The provider has read the input by now.
    assert (record.status, record.source) == (UsageStatus.CANCELLED, UsageSource.ESTIMATED)
    assert (tokens(record), record.charged_nanousd) == ((INPUT_TOKENS, 0), INPUT_TOKENS * 1_000)


@pytest.mark.parametrize("hold_at", ["head", "first_event"])
async def test_with_drain_a_whole_answer_that_nobody_waits_for_is_billed(platform: Platform, hold_at: Point) -> None:
    caller = make_caller(platform, OnDisconnect.DRAIN)
    platform.upstream.queue(Behaviour(hold_at=hold_at), target=caller.model)
    async with calling(platform, caller, "json", 0) as client:
        await asyncio.to_thread(platform.upstream.wait_until_held)
        await leave(platform, client)
    await asyncio.to_thread(platform.release)
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.source, tokens(record), record.charged_nanousd) == (UsageSource.PROVIDER, (3, 4), 19_000)
    (seen,) = platform.requests_for(caller.model)
    assert seen.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("bound", ["idle_timeout_seconds", "total_timeout_seconds"])
async def test_with_drain_an_upstream_that_does_not_end_is_left_within_its_bounds(
    platform: Platform, bound: str
) -> None:
    model = platform.make_model(upstream={"on_disconnect": OnDisconnect.DRAIN, bound: 1.0})
    caller = platform.make_caller(model=model)
    behaviour = Behaviour(hold_at=2) if bound.startswith("idle") else Behaviour(endless=True, event_delay_seconds=0.05)
    platform.upstream.queue(behaviour, target=caller.model)
    async with calling(platform, caller, "sse", 2) as client:
        await leave(platform, client)
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.status, record.error_code) == (UsageStatus.INTERRUPTED, "upstream_timeout")
    assert (record.source, record.input_tokens) == (UsageSource.ESTIMATED, INPUT_TOKENS)
    assert record.charged_nanousd == record.input_tokens * 1_000 + record.output_tokens * 4_000 > 0
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_after_the_last_byte_has_a_completed_call(platform: Platform, stream: bool) -> None:
    caller = make_caller(platform, OnDisconnect.STOP)
    answer = await ask(platform.server, caller, stream=stream)
    assert answer.text == "amber birch cedar delta "
    # Settled before the last byte left: no waiting.
    (record,) = platform.read_usage(caller)
    assert (record.status, record.source, tokens(record)) == (UsageStatus.COMPLETED, UsageSource.PROVIDER, (3, 4))
    platform.assert_settled(caller)


async def test_leaving_a_socket_ends_all_of_its_calls(platform: Platform) -> None:
    caller = make_caller(platform, OnDisconnect.STOP)
    platform.upstream.set_default(Behaviour(hold_at=1), target=caller.model)
    async with open_socket(platform.server, caller) as socket:
        for call_id in ("a", "b", "c"):
            await socket.call(caller, call_id)
        await asyncio.to_thread(platform.upstream.wait_until_held, n=3)
        await leave(platform, socket)
    records = await asyncio.to_thread(platform.wait_for_usage, caller, 3)
    assert {record.status for record in records} == {UsageStatus.CANCELLED}
    platform.assert_settled(caller)


async def test_clients_that_leave_at_once_leave_no_hold_behind(platform: Platform) -> None:
    caller = platform.make_caller()
    calls = await asyncio.gather(*(RawCall.start(platform.server, caller, stream=bool(i % 2)) for i in range(60)))
    for call in calls:
        await call.leave()

    def nothing_is_left() -> bool:
        gone = not any(platform.server.has_connection_from(call.port) for call in calls)
        return gone and not platform.read_holds(caller)

    await asyncio.to_thread(wait_for, nothing_is_left, what="all holds to be resolved")
    # The next call goes through admission after all of them.
    assert (await ask(platform.server, caller)).status == 200
    platform.assert_settled(caller)


async def test_a_client_that_leaves_before_its_request_is_whole_leaves_nothing(platform: Platform) -> None:
    caller = platform.make_caller()
    call = await RawCall.connect(platform.server)
    call.writer.write(RawCall.head(caller, "content-length: 1000") + b'{"model": "')
    await call.writer.drain()
    await leave(platform, call)
    assert platform.read_usage(caller) == []
    assert platform.requests_for(caller.model) == []

"""The same call made several times at once: one upstream call, and a hold, a usage record and a receipt for each."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from billing.models import CacheState, UsageRecord, UsageSource, UsageStatus
from gateway.models import OnDisconnect
from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.sockets import open_socket
from tests.flows.wire import Answer, RawCall, ask, ask_many
from tests.upstream import Behaviour, Point, error

WORDS = "amber birch cedar delta "


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return make_caller(platform)


def make_caller(platform: Platform, *, on_disconnect: OnDisconnect = OnDisconnect.STOP, **columns: object) -> Caller:
    """Return a caller of a model whose answers are reused."""
    return platform.make_caller(
        model=platform.make_model(upstream={"on_disconnect": on_disconnect}, cache_seconds=60, **columns)
    )


def hold(platform: Platform, caller: Caller, at: Point, **behaviour: object) -> None:
    platform.upstream.queue(Behaviour(hold_at=at, **behaviour), target=caller.model)  # type: ignore[arg-type]


async def wait_for_holds(platform: Platform, caller: Caller, n: int) -> None:
    await asyncio.to_thread(wait_for, lambda: len(platform.read_holds(caller)) == n, what=f"{n} calls in flight")


async def settle_all(platform: Platform, caller: Caller, n: int) -> dict[str, list[UsageRecord]]:
    """Return the customer's n usage records by what the cache did."""
    records = await asyncio.to_thread(platform.wait_for_usage, caller, n)
    assert len(records) == n
    platform.assert_settled(caller)
    return {state: [record for record in records if record.cache == state] for state in CacheState.values}


async def leave(platform: Platform, call: RawCall) -> None:
    await call.leave()
    await asyncio.to_thread(
        wait_for, lambda: not platform.server.has_connection_from(call.port), what="the server to notice"
    )


async def released(platform: Platform, asking: Awaitable[list[Answer]]) -> list[Answer]:
    # The holds of its callers stand before the call has been sent.
    await asyncio.to_thread(platform.release)
    return await asking


@pytest.mark.parametrize("stream", [False, True])
async def test_of_many_at_once_one_is_sent_and_paid(platform: Platform, caller: Caller, stream: bool) -> None:
    hold(platform, caller, "head")
    asking = asyncio.create_task(ask_many(platform.server, caller, n=8, stream=stream))
    await wait_for_holds(platform, caller, 8)
    answers = await released(platform, asking)
    assert {(answer.status, answer.text) for answer in answers} == {(200, WORDS)}
    assert sorted(answer.headers["x-cache"] for answer in answers) == ["coalesced"] * 7 + ["miss"]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 8
    found = await settle_all(platform, caller, 8)
    (paid,) = found["miss"]
    assert paid.charged_nanousd > 0
    assert [(r.charged_nanousd, r.output_tokens) for r in found["coalesced"]] == [(0, paid.output_tokens)] * 7
    assert len(platform.requests_for(caller.model)) == 1
    # Nobody is left who would be joined, and the answer is kept.
    assert (await ask(platform.server, caller, stream=stream)).headers["x-cache"] == "hit"
    platform.reconcile()


async def test_who_comes_later_sees_the_stream_from_its_beginning_and_live(platform: Platform, caller: Caller) -> None:
    hold(platform, caller, 2)
    async with await RawCall.start(platform.server, caller, stream=True) as first:
        await first.read_events(2)
        async with (
            await RawCall.start(platform.server, caller, stream=True) as second,
            open_socket(platform.server, caller) as socket,
        ):
            await second.read_events(2)
            assert b"x-cache: coalesced" in second.seen
            await socket.call(caller)
            assert (await socket.receive())["cache"] == "coalesced"
            await asyncio.to_thread(platform.release)
            await first.read_answer()
            assert b"[DONE]" in await second.read_answer()
            assert (await socket.finish())[-1]["type"] == "done"
    found = await settle_all(platform, caller, 3)
    assert (len(found["miss"]), len(found["coalesced"])) == (1, 2)
    assert len(platform.requests_for(caller.model)) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_takes_nothing_from_the_others(platform: Platform, caller: Caller, stream: bool) -> None:
    hold(platform, caller, 2 if stream else "head")
    async with await RawCall.start(platform.server, caller, stream=stream) as first:
        await wait_for_holds(platform, caller, 1)
        asking = asyncio.create_task(ask_many(platform.server, caller, n=2, stream=stream))
        await wait_for_holds(platform, caller, 3)
        await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
        await leave(platform, first)
    await asyncio.to_thread(platform.wait_for_usage, caller)
    answers = await released(platform, asking)
    assert {(answer.status, answer.text) for answer in answers} == {(200, WORDS)}
    found = await settle_all(platform, caller, 3)
    left, paid = sorted(found["miss"], key=lambda record: record.status)
    assert (left.status, left.charged_nanousd, left.source) == (UsageStatus.CANCELLED, 0, UsageSource.NONE)
    assert (paid.status, paid.output_tokens) == (UsageStatus.COMPLETED, 4)
    assert paid.overhead_us >= 0
    assert [record.charged_nanousd for record in found["coalesced"]] == [0]
    assert len(platform.requests_for(caller.model)) == 1
    platform.reconcile()


async def test_a_cancelled_call_on_a_socket_leaves_the_others_theirs(platform: Platform, caller: Caller) -> None:
    hold(platform, caller, 2)
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller)
        await socket.receive()
        asking = asyncio.create_task(ask_many(platform.server, caller, n=1, stream=True))
        await wait_for_holds(platform, caller, 2)
        await socket.send({"type": "cancel", "id": "1"})
        assert (await socket.finish())[-1]["error"]["code"] == "call_cancelled"
        (answer,) = await released(platform, asking)
    assert answer.is_whole
    found = await settle_all(platform, caller, 2)
    assert sorted(record.status for record in found["miss"]) == [UsageStatus.CANCELLED, UsageStatus.COMPLETED]


@pytest.mark.parametrize("on_disconnect", OnDisconnect)
async def test_when_all_have_left_the_last_pays_for_what_was_made(
    platform: Platform, on_disconnect: OnDisconnect
) -> None:
    caller = make_caller(platform, on_disconnect=on_disconnect)
    hold(platform, caller, 2)
    first = await RawCall.start(platform.server, caller, stream=True)
    await first.read_events(2)
    second = await RawCall.start(platform.server, caller, stream=True)
    await second.read_events(2)
    for call in (first, second):
        await leave(platform, call)
    if on_disconnect is OnDisconnect.DRAIN:
        await asyncio.to_thread(platform.release)
    found = await settle_all(platform, caller, 2)
    free, paid = sorted(found["miss"], key=lambda record: record.charged_nanousd)
    assert (free.charged_nanousd, free.status, paid.status) == (0, UsageStatus.CANCELLED, UsageStatus.CANCELLED)
    is_drained = on_disconnect is OnDisconnect.DRAIN
    assert paid.source == (UsageSource.PROVIDER if is_drained else UsageSource.ESTIMATED)
    assert paid.charged_nanousd > 0
    if not is_drained:
        await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    platform.reconcile()


async def test_an_error_is_an_error_of_all_and_charged_to_nobody(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(status=500, hold_at="head"), target=caller.model)
    asking = asyncio.create_task(ask_many(platform.server, caller, n=3))
    await wait_for_holds(platform, caller, 3)
    answers = await released(platform, asking)
    assert {(answer.status, answer.error["code"]) for answer in answers} == {(502, "upstream_error")}
    found = await settle_all(platform, caller, 3)
    assert {r.charged_nanousd for records in found.values() for r in records} == {0}
    # It is not kept, and stands in nobody's way.
    assert (await ask(platform.server, caller)).status == 200


async def test_what_went_over_to_another_upstream_is_shared_as_well(platform: Platform, caller: Caller) -> None:
    platform.add_deployment(caller.model, priority=2)
    platform.upstream.queue(error(500), target=caller.model)
    hold(platform, caller, "head")
    platform.upstream.queue(Behaviour(hold_at="head"), target=f"{caller.model}-2")
    asking = asyncio.create_task(ask_many(platform.server, caller, n=3, stream=True))
    await wait_for_holds(platform, caller, 3)
    await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
    answers = await released(platform, asking)
    assert {(answer.status, answer.text) for answer in answers} == {(200, WORDS)}
    await settle_all(platform, caller, 3)
    assert len(platform.requests_for(caller.model)) == 2


async def test_customers_never_share_a_call_that_is_running(platform: Platform) -> None:
    caller = make_caller(platform, cache_is_shared=True)
    stranger = platform.make_caller(model=caller.model)
    hold(platform, caller, "head")
    hold(platform, caller, "head")
    asking = [asyncio.create_task(ask_many(platform.server, who, n=1)) for who in (caller, stranger)]
    await asyncio.to_thread(platform.upstream.wait_until_held, n=2)
    await asyncio.to_thread(platform.release)
    assert [(await answers)[0].headers["x-cache"] for answers in asking] == ["miss", "miss"]


async def test_who_wants_a_fresh_answer_shares_none(platform: Platform, caller: Caller) -> None:
    hold(platform, caller, "head")
    hold(platform, caller, "head")
    first = asyncio.create_task(ask(platform.server, caller))
    await wait_for_holds(platform, caller, 1)
    second = asyncio.create_task(ask(platform.server, caller, headers={"cache-control": "no-cache"}))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=2)
    await asyncio.to_thread(platform.release)
    assert [(await one).headers["x-cache"] for one in (first, second)] == ["miss", "bypass"]


async def test_each_keeps_its_own_answer_under_its_key(platform: Platform, caller: Caller) -> None:
    hold(platform, caller, 1)
    keys = [{"idempotency-key": name} for name in ("one", "two")]
    asking = [asyncio.create_task(ask(platform.server, caller, headers=key, stream=True)) for key in keys]
    await wait_for_holds(platform, caller, 2)
    await asyncio.to_thread(platform.release)
    first = [await one for one in asking]
    found = await settle_all(platform, caller, 2)
    assert (len(found["miss"]), len(found["coalesced"])) == (1, 1)
    for before, key in zip(first, keys, strict=True):
        after = await ask(platform.server, caller, headers=key, stream=True)
        assert after.headers["idempotency-replayed"] == "true"
        assert after.events == before.events


async def test_a_killed_server_leaves_each_its_own_end(own_platform: Callable[..., Platform]) -> None:
    platform = own_platform()
    caller = make_caller(platform)
    hold(platform, caller, 2)
    calls = [await RawCall.start(platform.server, caller, stream=True) for _ in range(3)]
    await wait_for_holds(platform, caller, 3)
    platform.kill()
    for call in calls:
        await call.leave()
    platform.upstream.reset()
    await asyncio.to_thread(platform.start)
    records = await asyncio.to_thread(platform.wait_for_usage, caller, 3)
    assert [record.status for record in records] == [UsageStatus.LOST] * 3
    assert (await ask(platform.server, caller)).headers["x-cache"] == "miss"
    platform.assert_settled(caller)
    platform.reconcile()


async def test_a_server_that_goes_away_lets_a_shared_call_end(own_platform: Callable[..., Platform]) -> None:
    platform = own_platform(DRAIN_TIMEOUT_SECONDS="20")
    caller = make_caller(platform)
    hold(platform, caller, 2)
    async with (
        await RawCall.start(platform.server, caller, stream=True) as first,
        await RawCall.start(platform.server, caller, stream=True) as second,
    ):
        for call in (first, second):
            await call.read_events(2)
        platform.server.terminate()
        await asyncio.to_thread(wait_for, lambda: platform.server.probe("/readyz") != 200, what="the drain")
        await asyncio.to_thread(platform.release)
        for call in (first, second):
            assert b"[DONE]" in await call.read_answer()
    await asyncio.to_thread(platform.server.process.wait, 30)
    found = await settle_all(platform, caller, 2)
    assert (len(found["miss"]), len(found["coalesced"])) == (1, 1)

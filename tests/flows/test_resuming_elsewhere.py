"""With Redis any process goes on with a stream, also while it runs on another; without its writer it says so."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker
from redis import Redis

from billing.models import UsageStatus
from tests.flows.database import drop_templates
from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.resuming import EVENTS, ask_stream, break_off, go_on, id_of, start, text_from
from tests.flows.sockets import open_socket
from tests.flows.wire import chat_body
from tests.upstream import Behaviour

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def pair(pytestconfig: pytest.Config, django_db_blocker: DjangoDbBlocker) -> Iterator[Platform]:
    """Return a platform of two processes: calls begin on the first, and are gone on with on the second."""
    pytestconfig.add_cleanup(drop_templates)
    platform = Platform(blocker=django_db_blocker, REDIS_URL=os.environ["REDIS_URL"], STREAM_AWAY_SECONDS="2")
    try:
        platform.start(servers=2)
        yield platform
    finally:
        platform.close()


@pytest.fixture
def caller(pair: Platform) -> Caller:
    pair.upstream.reset()
    return pair.make_caller()


@pytest.mark.parametrize("read", [1, 3, EVENTS])
async def test_a_running_stream_goes_on_on_another_process(pair: Platform, caller: Caller, read: int) -> None:
    stream_id = await break_off(pair, caller, read=read, hold_at=read)
    async with await go_on(pair.servers[1], caller, stream_id, after=0) as call:
        if read > 1:
            await call.read_events(read - 1)
        await asyncio.to_thread(pair.release)
        assert b"data: [DONE]" in await call.read_answer()
    rest = await ask_stream(pair.servers[1], caller, stream_id, after=read - 1)
    assert (rest.text, rest.ids, rest.is_whole) == (text_from(read), list(range(read, EVENTS + 1)), True)
    assert (await ask_stream(pair.servers[1], caller, stream_id, after=EVENTS + 1)).status == 204
    assert (await ask_stream(pair.servers[0], caller, stream_id, after=read - 1)).raw == rest.raw
    record = await asyncio.to_thread(pair.settle_one, caller)
    assert (record.request_id, record.status) == (stream_id, UsageStatus.COMPLETED)


async def test_whoever_reads_elsewhere_keeps_the_stream_from_ending(pair: Platform, caller: Caller) -> None:
    # It is held for longer than a stream goes on with nobody reading.
    stream_id = await break_off(pair, caller, read=2, hold_at=2)
    other = pair.make_caller()
    left = await break_off(pair, other, read=2, hold_at=2)
    async with await go_on(pair.servers[1], caller, stream_id) as call:
        await call.read_events(2)
        # Of two streams that lost their clients at the same time the other one ends.
        (record,) = await asyncio.to_thread(pair.wait_for_usage, other)
        assert record.request_id == left
        await asyncio.to_thread(pair.release)
        assert b"data: [DONE]" in await call.read_answer()
    record = await asyncio.to_thread(pair.settle_one, caller)
    assert record.status == UsageStatus.COMPLETED


async def test_a_stream_is_cancelled_from_another_process(pair: Platform, caller: Caller) -> None:
    stream_id = await break_off(pair, caller, read=2, hold_at=2)
    answer = await ask_stream(pair.servers[1], caller, stream_id, method="DELETE")
    assert (answer.status, answer.body["status"]) == (202, "ending")
    assert (await ask_stream(pair.servers[1], caller, stream_id)).error["code"] == "call_cancelled"
    record = await asyncio.to_thread(pair.settle_one, caller)
    assert record.status == UsageStatus.CANCELLED
    assert (await ask_stream(pair.servers[1], caller, stream_id, method="DELETE")).body["status"] == "removed"
    assert (await ask_stream(pair.servers[1], caller, stream_id)).status == 404


async def test_another_customer_learns_nothing_on_any_process(pair: Platform, caller: Caller) -> None:
    stream_id = await break_off(pair, caller, read=2, hold_at=2)
    stranger = pair.make_caller(model=caller.model)
    for server in pair.servers:
        for method in ("GET", "DELETE"):
            assert (await ask_stream(server, stranger, stream_id, method=method)).status == 404
    await ask_stream(pair.server, caller, stream_id, method="DELETE")
    await asyncio.to_thread(pair.settle_one, caller)


async def test_a_call_on_a_socket_goes_on_on_another_process(pair: Platform, caller: Caller) -> None:
    pair.upstream.queue(Behaviour(events=EVENTS, hold_at=2), target=caller.model)
    async with open_socket(pair.servers[0], caller) as socket:
        await socket.send({"type": "call", "id": "a", "resumable": True, "body": chat_body(caller)})
        begun = await socket.receive()
        await socket.leave()
    async with open_socket(pair.servers[1], caller) as socket:
        await socket.send({"type": "resume", "id": "b", "stream": begun["request_id"]})
        assert await socket.receive() == {**begun, "id": "b"}
        await asyncio.to_thread(pair.release)
        rest = await socket.finish()
    assert (rest[-1]["type"], rest[-1]["seq"]) == ("done", len(rest) - 1)
    await asyncio.to_thread(pair.settle_one, caller)


async def test_a_stream_whose_process_is_killed_ends_with_that_word_and_is_settled_once(
    pair: Platform, caller: Caller
) -> None:
    pair.start()
    doomed = pair.servers.pop()
    pair.upstream.queue(Behaviour(events=EVENTS, hold_at=3), target=caller.model)
    async with await start(doomed, caller) as call:
        await call.read_events(3)
        stream_id = id_of(call)
        async with await go_on(pair.servers[1], caller, stream_id) as reader:
            await reader.read_events(3)
            doomed.kill()
            assert b"stream_lost" in await reader.read_answer()
    record = await asyncio.to_thread(pair.settle_one, caller)
    assert (record.request_id, record.status) == (stream_id, UsageStatus.LOST)
    # What had been relayed can still be had.
    rest = await ask_stream(pair.servers[0], caller, stream_id)
    assert (rest.text, rest.error["code"]) == (text_from(0, to=3), "stream_lost")


async def test_a_process_that_goes_away_sends_its_readers_to_another_one(pair: Platform, caller: Caller) -> None:
    pair.start()
    leaving = pair.servers.pop()
    stream_id = await break_off(pair, caller, read=2, hold_at=2)
    async with await go_on(leaving, caller, stream_id) as reader:
        await reader.read_events(2)
        leaving.terminate()
        assert b"server_draining" in await reader.read_answer()
    async with await go_on(pair.servers[1], caller, stream_id, after=1) as reader:
        await asyncio.to_thread(pair.release)
        assert b"data: [DONE]" in await reader.read_answer()
    leaving.stop()
    await asyncio.to_thread(pair.settle_one, caller)


async def test_events_that_redis_has_lost_are_told_and_not_left_out(pair: Platform, caller: Caller) -> None:
    stream_id = await break_off(pair, caller, read=3, hold_at=3)
    with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        wait_for(lambda: redis.xlen(f"tollkeeper:stream:events:{stream_id}") == 3, what="three events in Redis")
        redis.xtrim(f"tollkeeper:stream:events:{stream_id}", maxlen=1, approximate=False)
    gone = await ask_stream(pair.servers[1], caller, stream_id, after=0)
    assert (gone.status, gone.error["details"]) == (410, {"first_kept": 2})
    await ask_stream(pair.server, caller, stream_id, method="DELETE")
    await asyncio.to_thread(pair.settle_one, caller)


@pytest.fixture
def deaf(pytestconfig: pytest.Config, django_db_blocker: DjangoDbBlocker) -> Iterator[Platform]:
    """Return a platform whose Redis does not answer."""
    pytestconfig.add_cleanup(drop_templates)
    platform = Platform(blocker=django_db_blocker, REDIS_URL="redis://127.0.0.1:9/0")
    try:
        platform.start()
        yield platform
    finally:
        platform.close()


async def test_without_redis_calls_go_on_and_only_other_processes_streams_are_out_of_reach(deaf: Platform) -> None:
    caller = deaf.make_caller()
    stream_id = await break_off(deaf, caller, read=2, hold_at=2)
    unreachable = await ask_stream(deaf.server, caller, "req_unknown")
    assert (unreachable.status, unreachable.error["code"]) == (503, "streams_unavailable")
    assert unreachable.headers["retry-after"] == "2"
    async with await go_on(deaf.server, caller, stream_id, after=0) as call:
        await call.read_events(1)
        await asyncio.to_thread(deaf.release)
        assert b"data: [DONE]" in await call.read_answer()
    await asyncio.to_thread(deaf.settle_one, caller)

"""SIGTERM: no new calls, calls in flight end whole or are ended and settled, and the exit is clean."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from billing.models import UsageSource, UsageStatus
from tests.flows.platform import Platform, wait_for
from tests.flows.sockets import open_socket
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour

MakePlatform = Callable[..., Platform]
TEXT = "amber birch cedar delta "


def events_of(raw: bytes) -> list[str]:
    return [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]


async def test_calls_in_flight_end_whole_and_new_ones_are_refused(own_platform: MakePlatform) -> None:
    platform = own_platform(DRAIN_TIMEOUT_SECONDS="60")
    server = platform.server
    caller = platform.make_caller()
    platform.upstream.set_default(Behaviour(hold_at=2), target=caller.model)
    async with (
        await RawCall.start(server, caller, stream=True) as stream,
        await RawCall.start(server, caller) as whole,
        open_socket(server, caller) as socket,
        open_socket(server, caller) as idle,
    ):
        await socket.call(caller)
        await asyncio.to_thread(platform.upstream.wait_until_held, n=2)
        await stream.read_events(2)
        await socket.receive_until("delta")
        # A whole answer is one event, so it is held nowhere; it has come by now or comes in a moment.
        assert await whole.read_status() == 200
        server.terminate()
        await asyncio.to_thread(wait_for, lambda: server.probe("/readyz") == 503, what="/readyz to fail")
        assert server.probe("/healthz") == 200
        refused = await ask(server, caller)
        assert (refused.status, refused.error["code"]) == (503, "server_draining")
        assert refused.headers["retry-after"] == "1"
        await idle.call(caller)
        assert (await idle.receive())["error"]["code"] == "server_draining"
        await asyncio.to_thread(platform.release, n=2)
        data = events_of(await stream.read_answer())
        assert data[-1] == "[DONE]"
        assert "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in data[:-1]) == TEXT
        *_, done = await socket.finish()
        assert done["type"] == "done"
        # Going away.
        assert [await socket.wait_closed(), await idle.wait_closed()] == [1001, 1001]
    assert await asyncio.to_thread(server.process.wait, 30) == 0
    records = platform.read_usage(caller)
    assert [(record.status, record.source) for record in records] == [(UsageStatus.COMPLETED, UsageSource.PROVIDER)] * 3
    platform.assert_settled(caller)
    assert "Traceback" not in server.log


async def test_calls_beyond_the_bound_are_ended_told_so_and_settled(own_platform: MakePlatform) -> None:
    platform = own_platform(DRAIN_TIMEOUT_SECONDS="0.2")
    server = platform.server
    streaming, waiting, on_socket = (platform.make_caller() for _ in range(3))
    platform.upstream.queue(Behaviour(hold_at=2), target=streaming.model)
    platform.upstream.queue(Behaviour(hold_at="head"), target=waiting.model)
    platform.upstream.queue(Behaviour(hold_at=2), target=on_socket.model)
    async with (
        await RawCall.start(server, streaming, stream=True) as stream,
        await RawCall.start(server, waiting) as whole,
        open_socket(server, on_socket) as socket,
    ):
        await socket.call(on_socket)
        await asyncio.to_thread(platform.upstream.wait_until_held, n=3)
        await stream.read_events(2)
        server.terminate()
        *chunks, last = [json.loads(event) for event in events_of(await stream.read_answer())]
        assert len(chunks) == 2
        assert (last["error"]["code"], last["finish_reason"]) == ("server_draining", "error")
        assert last["tollkeeper"]["usage"]["source"] == "estimated"
        assert await whole.read_status() == 503
        *_, ended = await socket.finish()
        assert (ended["type"], ended["error"]["code"]) == ("error", "server_draining")
        assert await socket.wait_closed() == 1001
    assert await asyncio.to_thread(server.process.wait, 30) == 0
    # Settled before the process ended: nothing is left to the expiry of holds.
    for caller in (streaming, on_socket):
        (record,) = platform.read_usage(caller)
        assert (record.status, record.source) == (UsageStatus.INTERRUPTED, UsageSource.ESTIMATED)
        assert (record.error_code, record.output_tokens > 0) == ("server_draining", True)
        platform.assert_settled(caller)
    # We gave up, not the client, and it got nothing.
    (record,) = platform.read_usage(waiting)
    assert (record.status, record.source, record.charged_nanousd) == (UsageStatus.FAILED, UsageSource.NONE, 0)
    platform.assert_settled(waiting)
    assert "Traceback" not in server.log


async def test_a_server_without_calls_ends_at_once_and_gives_its_lease_back(own_platform: MakePlatform) -> None:
    platform = own_platform()
    caller = platform.make_caller()
    assert (await ask(platform.server, caller)).status == 200
    server = platform.server
    server.terminate()
    assert await asyncio.to_thread(server.process.wait, 30) == 0
    assert "Traceback" not in server.log
    platform.assert_settled(caller)


async def test_clients_that_read_nothing_do_not_keep_the_server_alive(own_platform: MakePlatform) -> None:
    platform = own_platform(DRAIN_TIMEOUT_SECONDS="0.2", CLIENT_STALL_SECONDS="600")
    large: dict[str, Any] = {
        "context_window": 2_000_000,
        "max_output_tokens": 1_000_000,
        "default_output_tokens": 1_000_000,
    }
    caller = platform.make_caller(model=platform.make_model(**large))
    platform.upstream.set_default(Behaviour(endless=True, tokens_per_event=2_500), target=caller.model)
    server = platform.server
    async with (
        await RawCall.start(server, caller, stream=True) as stream,
        open_socket(server, caller, max_queue=1, compression=None) as socket,
    ):
        stream.stop_reading()
        await socket.call(caller)
        await asyncio.to_thread(platform.upstream.wait_for_requests, 2)
        server.terminate()
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        await socket.leave()
    records = platform.read_usage(caller)
    assert {record.error_code for record in records} == {"server_draining"}
    platform.assert_settled(caller)

"""A real server whose clerk's process is killed, and a clerk's process whose server is."""

import asyncio
import signal
from collections.abc import Callable

import psutil
import pytest

from billing.models import UsageStatus
from tests.flows.platform import Platform, Server, wait_for
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour

MAXIMUM = {"max_completion_tokens": 20}


def find_clerk(server: Server) -> psutil.Process:
    """Return the process that a server forked, and did not start."""
    own = psutil.Process(server.process.pid)
    found: list[psutil.Process] = [child for child in own.children() if child.cmdline() == own.cmdline()]
    assert len(found) == 1
    return found[0]


async def test_calls_outlive_the_process_of_the_clerk_that_admitted_them(
    own_platform: Callable[..., Platform],
) -> None:
    platform = own_platform()
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(hold_at="head"), target=caller.model)
    platform.upstream.queue(Behaviour(hold_at=1), target=caller.model)
    whole = asyncio.create_task(ask(platform.server, caller, **MAXIMUM))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
    streamed = asyncio.create_task(ask(platform.server, caller, stream=True, **MAXIMUM))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=2)
    clerk = find_clerk(platform.server)
    clerk.kill()
    await asyncio.to_thread(wait_for, lambda: not clerk.is_running(), what="the end of the clerk's process")
    await asyncio.to_thread(wait_for, lambda: platform.server.probe("/readyz") == 200, what="/readyz")
    assert (await ask(platform.server, caller, **MAXIMUM)).status == 200
    platform.upstream.release()
    assert (await whole).status == 200
    assert (await streamed).is_whole
    records = await asyncio.to_thread(platform.wait_for_usage, caller, 3)
    assert [(record.status, record.flags) for record in records] == [(UsageStatus.COMPLETED, "")] * 3
    platform.assert_settled(caller)
    platform.server.stop()
    assert "a thread of this process takes its place" in platform.server.log
    platform.reconcile()


async def test_a_killed_server_leaves_no_process_and_no_hold_that_lives_on(
    own_platform: Callable[..., Platform],
) -> None:
    platform = own_platform(WORKER_LEASE_SECONDS="300")
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(hold_at="head"), target=caller.model)
    call = await RawCall.start(platform.server, caller, **MAXIMUM)
    await asyncio.to_thread(platform.upstream.wait_until_held)
    clerk = find_clerk(platform.server)
    # Signals are for the server: Ctrl-C and a service manager's stop reach both of them.
    for number in (signal.SIGINT, signal.SIGTERM):
        clerk.send_signal(number)
    platform.server.process.kill()
    platform.server.process.wait()
    await call.leave()
    await asyncio.to_thread(wait_for, lambda: not clerk.is_running(), what="the end of the clerk's process")
    platform.servers.clear()
    platform.upstream.reset()
    await asyncio.to_thread(platform.start)
    (record,) = await asyncio.to_thread(platform.wait_for_usage, caller)
    assert record.status == UsageStatus.LOST
    platform.assert_settled(caller)


@pytest.mark.parametrize("kind", ["process", "thread"])
async def test_a_server_has_the_clerk_that_its_settings_ask_for(
    own_platform: Callable[..., Platform], kind: str
) -> None:
    platform = own_platform(CLERK=kind)
    caller = platform.make_caller()
    assert (await ask(platform.server, caller, **MAXIMUM)).status == 200
    own = psutil.Process(platform.server.process.pid)
    assert len([child for child in own.children() if child.cmdline() == own.cmdline()]) == (kind == "process")
    platform.settle_one(caller)

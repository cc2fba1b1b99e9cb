"""Money and limits are exact across processes: four workers on one socket, 200 clients, ten places."""

import asyncio
import os
from collections.abc import Callable, Iterator

import psutil
import pytest
from pytest_django import DjangoDbBlocker

from billing.models import UsageStatus
from tests.flows.database import drop_templates
from tests.flows.flood import LIMITS, check_flood
from tests.flows.platform import Platform, wait_for
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour

pytestmark = pytest.mark.services

WORKERS = 4


@pytest.fixture(scope="module")
def workers(pytestconfig: pytest.Config, django_db_blocker: DjangoDbBlocker) -> Iterator[Platform]:
    pytestconfig.add_cleanup(drop_templates)
    platform = Platform(blocker=django_db_blocker, WORKERS=str(WORKERS), REDIS_URL=os.environ["REDIS_URL"])
    try:
        platform.start()
        wait_for(lambda: len(find_workers(platform)) == WORKERS, what="all workers")
        yield platform
    finally:
        platform.close()


def find_workers(platform: Platform) -> list[psutil.Process]:
    return list(psutil.Process(platform.server.process.pid).children())


@pytest.mark.parametrize("name", LIMITS)
async def test_of_200_clients_at_once_exactly_those_with_a_place_pass(workers: Platform, name: str) -> None:
    workers.upstream.reset()
    await check_flood(workers, LIMITS[name])


async def test_the_holds_of_a_killed_worker_are_resolved_by_the_others_and_it_is_replaced(workers: Platform) -> None:
    workers.upstream.reset()
    caller = workers.make_caller()
    workers.upstream.queue(*[Behaviour(hold_at="head")] * 12, target=caller.model)
    calls = await asyncio.gather(*(RawCall.start(workers.server, caller) for _ in range(12)))
    await asyncio.to_thread(workers.upstream.wait_until_held, n=12)
    victim, *_ = find_workers(workers)
    victim.kill()
    await asyncio.to_thread(wait_for, lambda: len(find_workers(workers)) == WORKERS, what="another worker")
    workers.upstream.release()
    records = await asyncio.to_thread(workers.wait_for_usage, caller, 12)
    assert {record.status for record in records} <= {UsageStatus.COMPLETED, UsageStatus.LOST}
    assert len({record.request_id for record in records}) == len(records) == 12
    workers.assert_settled(caller)
    assert (await ask(workers.server, caller)).status == 200
    workers.reconcile()
    for call in calls:
        await call.leave()


async def test_workers_whose_supervisor_was_killed_drain_and_end(own_platform: Callable[..., Platform]) -> None:
    platform = own_platform(WORKERS="2", REDIS_URL=os.environ["REDIS_URL"])
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(hold_at=2), target=caller.model)
    orphans = await asyncio.to_thread(wait_for, lambda: find_workers(platform), what="workers")
    async with await RawCall.start(platform.server, caller, stream=True) as call:
        await call.read_events(2)
        platform.server.process.kill()
        platform.server.process.wait()
        await asyncio.to_thread(platform.release)
        assert b"data: [DONE]" in await call.read_answer()
    _, alive = await asyncio.to_thread(psutil.wait_procs, orphans, 30)
    assert alive == []
    platform.assert_settled(caller)

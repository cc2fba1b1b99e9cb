"""`kill -9` of the server at any stage of a call: every hold is resolved once, and nobody is locked out."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from pytest_django import DjangoDbBlocker

from billing.models import Transfer, TransferKind, UsageSource, UsageStatus
from tests.flows.database import drop_templates
from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.wire import Answer, RawCall, ask
from tests.upstream import Behaviour, Point

HOLD_NANOUSD = 10 * 1_000 + 20 * 4_000
MAXIMUM = {"max_completion_tokens": 20}
CROWD = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the upstream holds a call while its server is killed."""

    hold_at: Point
    stream: bool


STAGES = {
    "before the head": Stage(hold_at="head", stream=False),
    "after the head": Stage(hold_at="first_event", stream=False),
    "stream, before the head": Stage(hold_at="head", stream=True),
    "stream, after the head": Stage(hold_at="first_event", stream=True),
    "stream, in the middle": Stage(hold_at=2, stream=True),
    "stream, before [DONE]": Stage(hold_at="done", stream=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """A platform whose only server was killed with calls at every stage, and was started again."""

    platform: Platform
    # One customer a stage, with money for exactly one call.
    stages: dict[str, Caller]
    # Had a stream for longer than it takes to note its progress.
    streaming: Caller
    # The tokens of the last note.
    noted: int
    # Had a call in flight, and money for more.
    rich: Caller
    # What its next call was answered, right after the start.
    rich_answer: Answer
    # Had a hundred calls in flight.
    crowd: Caller


async def _kill_and_restart(platform: Platform) -> Aftermath:
    stages = {name: platform.make_caller(credit_nanousd=HOLD_NANOUSD) for name in STAGES}
    streaming, rich, crowd = (platform.make_caller() for _ in range(3))
    upstream = platform.upstream
    # Events go on until there has been a note of progress, which comes with the first event after a second.
    upstream.queue(Behaviour(events=10_000, event_delay_seconds=0.02), target=streaming.model)
    for name, stage in STAGES.items():
        upstream.queue(Behaviour(hold_at=stage.hold_at), target=stages[name].model)
    upstream.queue(Behaviour(hold_at="head"), target=rich.model)
    upstream.set_default(Behaviour(hold_at="head"), target=crowd.model)
    server = platform.server
    calls = [await RawCall.start(server, streaming, stream=True)]
    for name, stage in STAGES.items():
        calls.append(await RawCall.start(server, stages[name], stream=stage.stream, **MAXIMUM))
    calls.append(await RawCall.start(server, rich, **MAXIMUM))
    calls += await asyncio.gather(*(RawCall.start(server, crowd, **MAXIMUM) for _ in range(CROWD)))

    def progress() -> int:
        return sum(hold.progress_tokens for hold in platform.read_holds(streaming))

    await asyncio.to_thread(upstream.wait_until_held, 30, n=len(STAGES) + 1 + CROWD)
    await asyncio.to_thread(wait_for, progress, what="a note of progress")
    platform.kill()
    noted = progress()
    # Whoever called has lost the connection; nothing more is sent to the dead.
    for call in calls:
        await call.leave()
    upstream.reset()
    await asyncio.to_thread(platform.start)
    rich_answer = await ask(platform.server, rich, **MAXIMUM)
    return Aftermath(
        platform=platform,
        stages=stages,
        streaming=streaming,
        noted=noted,
        rich=rich,
        rich_answer=rich_answer,
        crowd=crowd,
    )


@pytest.fixture(scope="module")
def aftermath(pytestconfig: pytest.Config, django_db_blocker: DjangoDbBlocker) -> Iterator[Aftermath]:
    pytestconfig.add_cleanup(drop_templates)
    platform = Platform(blocker=django_db_blocker)
    try:
        platform.start()
        yield asyncio.run(_kill_and_restart(platform))
    finally:
        platform.close()


def read_resolutions(platform: Platform, caller: Caller) -> list[tuple[str, int]]:
    """Return kind and amount of every movement of the customer's money but its credit and its holds."""
    own = Transfer.objects.filter(debit_account__customer_id=caller.customer_id)
    rows = own.exclude(kind=TransferKind.PENDING).order_by("id")
    return platform.run(lambda: list(rows.values_list("kind", "amount_nanousd")))


@pytest.mark.parametrize("stage", STAGES)
async def test_a_hold_is_resolved_once_and_its_money_is_there_again(aftermath: Aftermath, stage: str) -> None:
    platform, caller = aftermath.platform, aftermath.stages[stage]
    record, *others = await asyncio.to_thread(platform.wait_for_usage, caller)
    assert others == []
    assert (record.status, record.error_code, record.flags) == (UsageStatus.LOST, "server_lost", "server_died")
    assert record.is_stream is STAGES[stage].stream
    # Nothing had been noted as relayed, so nothing is charged.
    assert (record.source, record.charged_nanousd) == (UsageSource.NONE, 0)
    assert read_resolutions(platform, caller) == [(TransferKind.EXPIRE, HOLD_NANOUSD)]
    assert (await ask(platform.server, caller, **MAXIMUM)).status == 200
    platform.assert_settled(caller)


async def test_a_lost_stream_is_charged_for_what_its_last_note_says(aftermath: Aftermath) -> None:
    platform, caller = aftermath.platform, aftermath.streaming
    (record,) = await asyncio.to_thread(platform.wait_for_usage, caller)
    assert aftermath.noted > 0
    assert (record.status, record.source) == (UsageStatus.LOST, UsageSource.ESTIMATED)
    assert (record.input_tokens, record.output_tokens) == (10, aftermath.noted)
    assert record.charged_nanousd == 10 * 1_000 + aftermath.noted * 4_000
    assert read_resolutions(platform, caller) == [(TransferKind.POST, record.charged_nanousd)]
    platform.assert_settled(caller)


async def test_a_customer_with_money_for_more_is_served_before_the_lost_hold_has_expired(aftermath: Aftermath) -> None:
    platform, caller = aftermath.platform, aftermath.rich
    assert aftermath.rich_answer.status == 200
    records = await asyncio.to_thread(platform.wait_for_usage, caller, 2)
    assert sorted(record.status for record in records) == [UsageStatus.COMPLETED, UsageStatus.LOST]
    platform.assert_settled(caller)


async def test_each_of_a_hundred_calls_in_flight_is_resolved_once(aftermath: Aftermath) -> None:
    platform, caller = aftermath.platform, aftermath.crowd
    records = await asyncio.to_thread(platform.wait_for_usage, caller, CROWD)
    assert len({record.request_id for record in records}) == len(records) == CROWD
    assert read_resolutions(platform, caller) == [(TransferKind.EXPIRE, HOLD_NANOUSD)] * CROWD
    platform.assert_settled(caller)


async def test_the_books_reconcile_to_zero_difference(aftermath: Aftermath) -> None:
    platform = aftermath.platform
    await asyncio.to_thread(platform.wait_for_usage, aftermath.crowd, CROWD)
    platform.reconcile()


async def test_the_last_place_is_denied_while_the_lease_runs_and_given_to_the_next_call_after_it(
    own_platform: Callable[..., Platform],
) -> None:
    platform = own_platform(servers=2)
    caller = platform.make_caller(credit_nanousd=HOLD_NANOUSD, plan_limits={"concurrency": 1})
    platform.upstream.queue(Behaviour(hold_at=1), target=caller.model)
    call = await RawCall.start(platform.server, caller, stream=True, **MAXIMUM)
    await call.read_events(1)
    dead = platform.servers.pop(0)
    # The other process sees the place taken: the call is still running.
    assert (await ask(platform.server, caller, **MAXIMUM)).error["code"] == "concurrency_limit_exceeded"
    dead.kill()
    await call.leave()
    # It takes over what the dead one left, without a restart and without being asked.
    async with asyncio.timeout(30):
        while (answer := await ask(platform.server, caller, **MAXIMUM)).status != 200:
            assert answer.error["code"] == "concurrency_limit_exceeded"
    statuses = [record.status for record in platform.read_usage(caller)]
    assert statuses == [UsageStatus.LOST, UsageStatus.COMPLETED]
    platform.assert_settled(caller)

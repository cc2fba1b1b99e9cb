"""`kill -9` of the server at any stage of a call: every hold is resolved once, and nobody is locked out."""

import asyncio
from collections.abc import Callable

import pytest

from billing.models import Transfer, TransferKind, UsageRecord, UsageSource, UsageStatus
from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour, Point

HOLD_NANOUSD = 10 * 1_000 + 20 * 4_000
MAXIMUM = {"max_completion_tokens": 20}
STAGES: dict[str, Point] = {
    "before the head": "head",
    "after the head": "first_event",
    "in the middle": 2,
    "before [DONE]": "done",
}

MakePlatform = Callable[..., Platform]


def resolutions(platform: Platform, caller: Caller) -> list[tuple[str, int]]:
    """Return kind and amount of what resolved the customer's holds, oldest first."""
    own = Transfer.objects.filter(debit_account__customer_id=caller.customer_id)
    kinds = (TransferKind.POST, TransferKind.VOID, TransferKind.EXPIRE, TransferKind.DIRECT)
    rows = own.filter(kind__in=kinds).order_by("id")
    return platform.run(lambda: list(rows.values_list("kind", "amount_nanousd")))


async def test_holds_of_every_stage_are_resolved_once_after_the_restart(own_platform: MakePlatform) -> None:
    platform = own_platform()
    calls: list[RawCall] = []
    callers: dict[str, Caller] = {}
    for stage, hold_at in STAGES.items():
        for stream in (True, False):
            if not stream and stage not in ("before the head", "after the head"):
                continue
            # The last one has money for exactly one call.
            caller = callers[f"{stage}, stream={stream}"] = platform.make_caller(credit_nanousd=HOLD_NANOUSD)
            platform.upstream.queue(Behaviour(hold_at=hold_at), target=caller.model)
            calls.append(await RawCall.start(platform.server, caller, stream=stream, **MAXIMUM))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=len(callers))
    rich = platform.make_caller()
    platform.upstream.queue(Behaviour(hold_at="head"), target=rich.model)
    calls.append(await RawCall.start(platform.server, rich, **MAXIMUM))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=len(calls))

    platform.kill()
    await asyncio.to_thread(platform.start)
    # The lease of the dead process may still run: whoever has money for more than the lost call is served all the same.
    assert (await ask(platform.server, rich, **MAXIMUM)).status == 200
    for caller in (*callers.values(), rich):
        await asyncio.to_thread(wait_for, lambda: not platform.read_holds(caller), what="the hold's expiry")  # noqa: B023

    for stage, caller in callers.items():
        (record,) = platform.read_usage(caller)
        assert (record.status, record.error_code, record.flags) == (UsageStatus.LOST, "server_lost", "server_died")
        # Nothing was noted as relayed in so short a time, so nothing is charged.
        assert (record.source, record.charged_nanousd) == (UsageSource.NONE, 0), stage
        assert resolutions(platform, caller) == [(TransferKind.EXPIRE, HOLD_NANOUSD)]
        # The money for one call is there again.
        assert (await ask(platform.server, caller, **MAXIMUM)).status == 200
        platform.assert_settled(caller)
    lost, served = sorted(platform.read_usage(rich), key=lambda record: record.status != UsageStatus.LOST)
    assert (lost.status, served.status) == (UsageStatus.LOST, UsageStatus.COMPLETED)
    platform.assert_settled(rich)
    platform.reconcile()
    for call in calls:
        await call.leave()


async def test_a_lost_stream_is_charged_for_what_its_last_note_says(own_platform: MakePlatform) -> None:
    platform = own_platform()
    caller = platform.make_caller()
    # Events go on until there has been a note of progress, which comes with the first event after a second.
    platform.upstream.queue(Behaviour(events=1_000, event_delay_seconds=0.05), target=caller.model)
    call = await RawCall.start(platform.server, caller, stream=True)

    def progress() -> int:
        return sum(hold.progress_tokens for hold in platform.read_holds(caller))

    noted = await asyncio.to_thread(wait_for, progress, what="a note of progress")
    platform.kill()
    # Another note may have been booked before the end.
    noted = max(noted, progress())
    await asyncio.to_thread(platform.start)
    (record,) = await asyncio.to_thread(platform.wait_for_usage, caller)
    assert (record.status, record.source, record.output_tokens) == (UsageStatus.LOST, UsageSource.ESTIMATED, noted)
    assert record.charged_nanousd == 10 * 1_000 + noted * 4_000
    assert resolutions(platform, caller) == [(TransferKind.POST, record.charged_nanousd)]
    platform.assert_settled(caller)
    platform.reconcile()
    await call.leave()


async def test_money_for_one_call_is_denied_while_the_lease_runs_and_given_back_after_it(
    own_platform: MakePlatform,
) -> None:
    platform = own_platform(servers=2)
    caller = platform.make_caller(credit_nanousd=HOLD_NANOUSD, plan_limits={"concurrency": 1})
    platform.upstream.queue(Behaviour(hold_at=1), target=caller.model)
    call = await RawCall.start(platform.server, caller, stream=True, **MAXIMUM)
    await call.read_events(1)
    dead = platform.servers.pop(0)
    # The other process sees the place taken: the call might still be running.
    assert (await ask(platform.server, caller, **MAXIMUM)).error["code"] == "concurrency_limit_exceeded"
    dead.kill()
    # It takes over what the dead one left, without a restart.
    while (answer := await ask(platform.server, caller, **MAXIMUM)).status != 200:
        assert answer.error["code"] == "concurrency_limit_exceeded"
        assert [hold.amount_nanousd for hold in platform.read_holds(caller)] == [HOLD_NANOUSD]
    statuses = [record.status for record in platform.read_usage(caller)]
    assert statuses == [UsageStatus.LOST, UsageStatus.COMPLETED]
    platform.assert_settled(caller)
    await call.leave()


@pytest.mark.parametrize("n", [100])
async def test_many_calls_in_flight_are_all_resolved_once(own_platform: MakePlatform, n: int) -> None:
    platform = own_platform()
    caller = platform.make_caller()
    platform.upstream.set_default(Behaviour(hold_at="head"), target=caller.model)
    calls = await asyncio.gather(*(RawCall.start(platform.server, caller, **MAXIMUM) for _ in range(n)))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=n)
    platform.kill()
    await asyncio.to_thread(platform.start)
    records: list[UsageRecord] = await asyncio.to_thread(platform.wait_for_usage, caller, n)
    assert len({record.request_id for record in records}) == len(records) == n
    assert resolutions(platform, caller) == [(TransferKind.EXPIRE, HOLD_NANOUSD)] * n
    platform.assert_settled(caller)
    platform.reconcile()
    for call in calls:
        await call.leave()

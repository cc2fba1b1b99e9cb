"""A random day (of a fixed seed): every kind of call and of money at once, `kill -9` in the middle, and clean books."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from billing.errors import AmountInvalid
from billing.models import UsageStatus
from billing.money import Order, order_movement
from billing.money_models import MovementKind
from billing.postings import post_hours
from billing.usage_days import roll_up_usage
from tests.flows.platform import Caller, Platform, Server, wait_for
from tests.flows.wire import RawCall, ask_with, open_client
from tests.upstream import Behaviour, UsagePlace, error, make_usage, rate_limited

SEED = 20_261_121
CALLS_A_ROUND = 60
# Dear enough that small wallets run dry, and of rates that leave fractions of a nano-dollar.
RATES = {"input_nanousd": 1_333_333, "output_nanousd": 7_777_777, "request_nanousd": 13}
BEHAVIOURS = (
    Behaviour(),
    Behaviour(events=12, event_delay_seconds=0.03),
    Behaviour(usage_place=UsagePlace.NOWHERE, events=8),
    Behaviour(usage=make_usage(prompt_tokens=17, completion_tokens=13, cached_tokens=5, reasoning_tokens=3)),
    # More than was held.
    Behaviour(usage=make_usage(prompt_tokens=17, completion_tokens=9_999)),
    Behaviour(text="", events=0, usage=make_usage(prompt_tokens=10, completion_tokens=1)),
    Behaviour(cut_at=2),
    Behaviour(cut_at="head"),
    Behaviour(first_event_delay_seconds=0.3),
    error(500),
    error(400),
    rate_limited(),
)
KINDS = (
    MovementKind.TOP_UP,
    MovementKind.GRANT,
    MovementKind.REFUND,
    MovementKind.CREDIT_NOTE,
    MovementKind.ADJUSTMENT_UP,
    MovementKind.ADJUSTMENT_DOWN,
    MovementKind.CREDIT_LIMIT,
)


def make_callers(platform: Platform) -> list[Caller]:
    """Return customers of every sort: rich, poor, postpaid, with grants, limited, and under rules of no charge."""
    rules: tuple[dict[str, Any], ...] = ({}, {"no_charge_on": "both"})
    models = [platform.make_model(with_price=False, retries=1, **rule) for rule in rules]
    for model in models:
        platform.make_price(model, **RATES)
    wallets: tuple[dict[str, Any], ...] = (
        {},
        {"credit_nanousd": 900},
        {"credit_nanousd": 0},
        {"plan_limits": {"concurrency": 3}},
        {"customer_limits": {"spend_per_day_nanousd": 3_000}},
    )
    callers = [platform.make_caller(model=model, **wallet) for model in models for wallet in wallets]
    for caller in callers[2::5]:
        move(platform, MovementKind.CREDIT_LIMIT, caller, 700)
    return callers


def move(platform: Platform, kind: MovementKind, caller: Caller, amount: int, **options: Any) -> None:
    order = Order(
        kind=kind, customer_id=caller.customer_id, amount_nanousd=amount, reason="a test", author="tests", **options
    )
    platform.run(order_movement, order)


def move_at_random(platform: Platform, random_: random.Random, caller: Caller) -> None:
    """Move some money, if the books let it."""
    kind, now = random_.choice(KINDS), datetime.now(UTC)
    options: dict[str, Any] = {}
    if kind is MovementKind.GRANT:
        starts = now + timedelta(seconds=random_.choice((-1, 1)))
        options = {"starts_at": starts, "expires_at": starts + timedelta(seconds=2)}
    with suppress(AmountInvalid):
        move(platform, kind, caller, random_.randrange(1, 400), **options)


async def call_at_random(
    platform: Platform, server: Server, client: aiohttp.ClientSession, random_: random.Random, caller: Caller
) -> None:
    """Make one call, which may fail, be refused, be left by its client, or lose its server."""
    options = {"stream": random_.random() < 0.6, "max_completion_tokens": random_.choice((5, 20, 60))}
    platform.upstream.queue(random_.choice(BEHAVIOURS), target=caller.model)
    leaves, key = random_.random() < 0.15, random_.randrange(8)
    headers = {"idempotency-key": f"key-{key}"} if key < 2 else {}
    # Its server may be killed.
    with suppress(aiohttp.ClientError, ConnectionError):
        if leaves:
            async with await RawCall.start(server, caller, **options):
                await asyncio.sleep(0)
        else:
            await ask_with(client, server, caller, headers=headers, **options)


async def make_traffic(
    platform: Platform, random_: random.Random, callers: list[Caller], steady: Caller, *, dies: bool
) -> None:
    """Make a round of calls and movements at once; where the server dies, in the middle of them and of a steady one."""
    server = platform.server
    in_flight = None
    if dies:
        # One is certain to be in flight when the server dies.
        platform.upstream.queue(Behaviour(hold_at="head"), target=steady.model)
        in_flight = await RawCall.start(server, steady, max_completion_tokens=5)
        await asyncio.to_thread(platform.upstream.wait_until_held, 30)
    async with open_client() as client:
        tasks = [
            asyncio.create_task(call_at_random(platform, server, client, random_, random_.choice(callers)))
            for _ in range(CALLS_A_ROUND)
        ]
        for _ in range(6):
            await asyncio.to_thread(move_at_random, platform, random_, random_.choice(callers))
        if dies:
            await asyncio.to_thread(wait_for, lambda: len(platform.upstream.requests) >= 10, what="calls in flight")
            platform.kill()
            platform.upstream.reset()
        await asyncio.gather(*tasks)
    if in_flight is not None:
        await in_flight.leave()


async def test_after_a_random_day_with_crashes_the_books_have_no_difference(
    own_platform: Callable[..., Platform],
) -> None:
    random_ = random.Random(SEED)
    platform = own_platform()
    callers = make_callers(platform)
    # Its model never fails, so no breaker keeps it from its upstream after a day of faults.
    steady = platform.make_caller()
    for dies in (True, True, False):
        await make_traffic(platform, random_, callers, steady, dies=dies)
        if dies:
            await asyncio.to_thread(platform.start)

    def holds() -> int:
        return sum(len(platform.read_holds(caller)) for caller in (*callers, steady))

    await asyncio.to_thread(wait_for, lambda: holds() == 0, what="the end of every hold", timeout_seconds=30)
    records = [record for caller in (*callers, steady) for record in platform.read_usage(caller)]
    assert UsageStatus.LOST in {record.status for record in records}
    assert any(record.flags.startswith("no_charge_") for record in records)
    later = datetime.now(UTC) + timedelta(hours=2)
    platform.run(post_hours, now=later)
    assert platform.run(roll_up_usage, now=later) >= len(records)
    platform.reconcile()

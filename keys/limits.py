"""The arithmetic of limits: pure functions over an owner's counters and the clock.

A rate is a token bucket that refills continuously and holds one minute's worth, or what `burst_seconds` says. Its debt
is kept in unit-microseconds (see `keys.limit_values`). A budget is a UTC day or month known by its number, or all time.

A call takes what it may use at most, and gives back at its end what it did not. It can give back only what still
stands in the bucket: what it took is in a queue behind what was taken before, time repays the queue from its front,
and so does every refund. `Counters.*_tokens_taken` counts all tokens that ever entered the queue, and a call
remembers where it stood (its `Marks`). Without this, what had drained long ago could be given back a second time, out
of what later calls had taken, and more than a full bucket would pass at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from keys.limit_values import (
    BUDGET_COLUMNS,
    LIMIT_COLUMNS,
    MAX_DEBT,
    MAX_RATE,
    RATE_COLUMNS,
    UNIT,
    Budget,
    EndpointClass,
    LimitKind,
    LimitValues,
    Rate,
    ceil_seconds,
    counter_name,
)
from keys.windows import day_ends_us, day_number, month_ends_us, month_number, month_start_day

__all__ = [
    "BUDGET_COLUMNS",
    "LIMIT_COLUMNS",
    "MAX_RATE",
    "RATE_COLUMNS",
    "UNIT",
    "EndpointClass",
    "LimitKind",
    "LimitValues",
    "counter_name",
    "day_number",
    "month_number",
    "month_start_day",
]

_MAX_COUNT = 2**63 - 1


@dataclass(slots=True, kw_only=True)
class Counters:
    """An owner's counters inside one transaction; the columns of `LimitState` in their order.

    Mutable on purpose: a batch takes from it call by call, and writes it once.
    """

    owner: str
    updated_us: int
    requests_debt: int = 0
    input_tokens_debt: int = 0
    output_tokens_debt: int = 0
    input_tokens_taken: int = 0
    output_tokens_taken: int = 0
    in_flight: int = 0
    day: int = 0
    day_posted_nanousd: int = 0
    day_held_nanousd: int = 0
    month: int = 0
    month_posted_nanousd: int = 0
    month_held_nanousd: int = 0
    total_posted_nanousd: int = 0
    total_held_nanousd: int = 0


COUNTER_COLUMNS = tuple(Counters.__dataclass_fields__)


class Demand(NamedTuple):
    """What one call asks of every owner's limits, as upper bounds."""

    input_tokens: int
    output_tokens: int
    amount_nanousd: int


class Marks(NamedTuple):
    """How many tokens had been taken, this call's included, when it was admitted; None: that rate had no limit."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class OwnerState(NamedTuple):
    """One owner of a call: the row of its places and budgets, that of its rates (for chat the same), its limits."""

    main: Counters
    rated: Counters
    limits: LimitValues
    # What it is to the call: "customer", "key", or "maker" (a key that made the key).
    kind: str = "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRefusal:
    """Why a call may not pass: whose limit, how full, and when it would fit (None: waiting does not cure it)."""

    kind: LimitKind
    endpoint_class: EndpointClass
    # "customer", "key" or "maker".
    owner: str
    source: str
    limit: int
    used: int
    requested: int
    retry_after_seconds: int | None
    # What the full bucket of a rate holds; of everything else the limit itself.
    at_once: int
    # When the bucket is full or the window ends; None: never, or not to be foretold.
    resets_in_seconds: int | None = None


class LimitReading(NamedTuple):
    """A limit as it stands for a caller: after its call was admitted, or when it was refused."""

    kind: LimitKind
    limit: int
    remaining: int
    # None: not by itself.
    reset_seconds: int | None
    # What `remaining` is when nothing is used, and the seconds in which that much refills.
    at_once: int
    window_seconds: int
    owner: str
    source: str

    @property
    def percent_used(self) -> int:
        """Return how full the limit is, rounded down; a limit of zero is full."""
        return 100 if self.at_once == 0 else (self.at_once - self.remaining) * 100 // self.at_once


def roll_forward(
    counters: Counters, limits: LimitValues, now_us: int, endpoint_class: str = EndpointClass.CHAT
) -> None:
    """Bring `counters` to `now_us`: repay the buckets, begin a new day or month.

    `endpoint_class` says whose rates the row counts. A clock that went back repays nothing.
    """
    elapsed = now_us - counters.updated_us
    if elapsed > 0:
        requests, input_tokens, output_tokens = (
            counters.requests_debt,
            counters.input_tokens_debt,
            counters.output_tokens_debt,
        )
        # A bucket without a limit keeps no debt: one set later starts full.
        counters.requests_debt = counters.input_tokens_debt = counters.output_tokens_debt = 0
        debts = (requests, input_tokens, output_tokens)
        for rate in limits.rates[endpoint_class]:
            left = debts[rate.place] - rate.limit * elapsed
            if left > 0:
                setattr(counters, rate.debt_name, left)
        counters.updated_us = now_us
    day = day_number(now_us)
    if day > counters.day:
        counters.day, counters.day_posted_nanousd, counters.day_held_nanousd = day, 0, 0
        month = month_number(now_us)
        if month > counters.month:
            counters.month, counters.month_posted_nanousd, counters.month_held_nanousd = month, 0, 0


def find_refusal(
    owner: OwnerState, demand: Demand, now_us: int, endpoint_class: str = EndpointClass.CHAT
) -> LimitRefusal | None:
    """Return the first limit that `demand` does not fit into, or None. Counters must be rolled forward."""
    main, _, limits, _ = owner
    places = limits.concurrency
    if places is not None and main.in_flight >= places:
        # How long a call in flight will last nobody knows; a place that does not exist will never be free.
        wait = 1 if places else None
        return _refusal(owner, LimitKind.CONCURRENCY, "concurrency", main.in_flight, 1, wait, endpoint_class)
    refusal = find_rate_refusal(owner, demand, endpoint_class)
    if refusal is not None:
        return refusal
    amount = demand.amount_nanousd
    for budget in limits.budgets:
        used = budget_used(budget, main)
        if used + amount > budget.limit:
            resets = budget_resets_in(budget.kind, main, now_us)
            # A call dearer than the whole budget does not fit into the next window either.
            wait = resets if amount <= budget.limit else None
            return _refusal(owner, budget.kind, budget.column, used, amount, wait, endpoint_class, resets)
    return None


def find_rate_refusal(owner: OwnerState, demand: Demand, endpoint_class: str) -> LimitRefusal | None:
    """Return the first rate that `demand` does not fit into, or None. Counters must be rolled forward."""
    _, rated, limits, kind = owner
    wanted_units = (1, demand.input_tokens, demand.output_tokens)
    for rate in limits.rates[endpoint_class]:
        wanted = wanted_units[rate.place]
        if wanted == 0:
            continue
        debt = getattr(rated, rate.debt_name)
        excess = debt + wanted * UNIT - rate.capacity
        if excess > 0:
            # More than the bucket holds never fits, however long the wait.
            wait = ceil_seconds(excess, rate.limit) if wanted * UNIT <= rate.capacity else None
            return LimitRefusal(
                kind=rate.kind,
                endpoint_class=EndpointClass(endpoint_class),
                owner=kind,
                source=limits.sources.get(rate.column, kind),
                limit=rate.limit,
                used=-(-debt // UNIT),
                requested=wanted,
                retry_after_seconds=wait,
                at_once=rate.at_once,
                resets_in_seconds=ceil_seconds(debt, rate.limit),
            )
    return None


def take(owner: OwnerState, demand: Demand, endpoint_class: str = EndpointClass.CHAT) -> Marks:
    """Take an admitted call's demand and return the marks that its settlement needs."""
    main = owner.main
    main.in_flight += 1
    main.day_held_nanousd += demand.amount_nanousd
    main.month_held_nanousd += demand.amount_nanousd
    main.total_held_nanousd += demand.amount_nanousd
    return take_rates(owner, demand, endpoint_class)


def take_rates(owner: OwnerState, demand: Demand, endpoint_class: str) -> Marks:
    """Take what a call asks of the rates alone."""
    _, rated, limits, _ = owner
    wanted_units = (1, demand.input_tokens, demand.output_tokens)
    marks: list[int | None] = [None, None, None]
    for rate in limits.rates[endpoint_class]:
        wanted = wanted_units[rate.place]
        setattr(rated, rate.debt_name, getattr(rated, rate.debt_name) + wanted * UNIT)
        if rate.taken_name is not None:
            marks[rate.place] = taken = getattr(rated, rate.taken_name) + wanted
            setattr(rated, rate.taken_name, taken)
    return Marks(marks[1], marks[2])


def settle_main(counters: Counters, *, held_nanousd: int, held_day: int, held_month: int, charged_nanousd: int) -> None:
    """End a call: free its place, turn held budget into spent.

    A window that has passed since the hold is closed and stays as it is.
    """
    counters.in_flight = max(0, counters.in_flight - 1)
    if counters.day == held_day:
        counters.day_held_nanousd -= held_nanousd
        counters.day_posted_nanousd += charged_nanousd
    if counters.month == held_month:
        counters.month_held_nanousd -= held_nanousd
        counters.month_posted_nanousd += charged_nanousd
    counters.total_held_nanousd -= held_nanousd
    counters.total_posted_nanousd += charged_nanousd


def settle_rates(counters: Counters, *, held: Demand, marks: Marks, used_input: int, used_output: int) -> None:
    """Correct the token buckets to what a call used.

    Less than it took comes back as far as it still stands; more is added. Without a mark (the rate had no limit, or
    the process that knew it died) nothing comes back.
    """
    for debt_name, taken_name, mark, unused in (
        ("input_tokens_debt", "input_tokens_taken", marks.input_tokens, held.input_tokens - used_input),
        ("output_tokens_debt", "output_tokens_taken", marks.output_tokens, held.output_tokens - used_output),
    ):
        if mark is None or unused == 0:
            continue
        debt, taken = getattr(counters, debt_name), getattr(counters, taken_name)
        if unused > 0:
            repaid_to = taken * UNIT - debt
            setattr(counters, debt_name, debt - max(0, min(unused * UNIT, mark * UNIT - repaid_to)))
        else:
            setattr(counters, debt_name, min(MAX_DEBT, debt - unused * UNIT))
            setattr(counters, taken_name, min(_MAX_COUNT, taken - unused))


def post_late(counters: Counters, *, day: int, month: int, charged_nanousd: int) -> None:
    """Count what a call of that day and month was charged after its hold had expired."""
    if counters.day == day:
        counters.day_posted_nanousd += charged_nanousd
    if counters.month == month:
        counters.month_posted_nanousd += charged_nanousd
    counters.total_posted_nanousd += charged_nanousd


def budget_left(counters: Counters, limits: LimitValues, *, day: int, month: int) -> int | None:
    """Return what the budgets of that day and month, and the total one, still allow; None where none applies."""
    left = []
    for budget in limits.budgets:
        is_over = (budget.kind is LimitKind.SPEND_DAY and counters.day != day) or (
            budget.kind is LimitKind.SPEND_MONTH and counters.month != month
        )
        if not is_over:
            left.append(budget.limit - budget_used(budget, counters))
    return min(left) if left else None


def readings(owner: OwnerState, now_us: int, endpoint_class: str = EndpointClass.CHAT) -> list[LimitReading]:
    """Return what the limits of one owner look like now; counters must be rolled forward."""
    found = rate_readings(owner, endpoint_class)
    main, _, limits, name = owner
    places, sources = limits.concurrency, limits.sources
    if places is not None:
        left, source = max(0, places - main.in_flight), sources.get("concurrency", name)
        found.append(LimitReading(LimitKind.CONCURRENCY, places, left, None, places, 0, name, source))
    for budget in limits.budgets:
        kind, limit = budget.kind, budget.limit
        left, source = max(0, limit - budget_used(budget, main)), sources.get(budget.column, name)
        resets = budget_resets_in(kind, main, now_us)
        found.append(LimitReading(kind, limit, left, resets, limit, 0, name, source))
    return found


def rate_readings(owner: OwnerState, endpoint_class: str) -> list[LimitReading]:
    """Return what the rates of one owner look like now; counters must be rolled forward."""
    _, rated, limits, name = owner
    found = []
    for kind, column, debt_name, _, _, limit, capacity, at_once, window in limits.rates[endpoint_class]:
        debt = getattr(rated, debt_name)
        left, source = max(0, (capacity - debt) // UNIT), limits.sources.get(column, name)
        found.append(LimitReading(kind, limit, left, ceil_seconds(debt, limit), at_once, window, name, source))
    return found


def tightest(found: Iterable[LimitReading]) -> tuple[LimitReading, ...]:
    """Return one reading a kind: that of the owner with the least left."""
    least: dict[LimitKind, LimitReading] = {}
    for reading in found:
        known = least.get(reading.kind)
        if known is None or reading.remaining < known.remaining:
            least[reading.kind] = reading
    return tuple(least.values())


def budget_used(budget: Budget, counters: Counters) -> int:
    """Return the nano-USD spent and held of a budget."""
    used: int = getattr(counters, budget.posted_name) + getattr(counters, budget.held_name)
    return used


def budget_resets_in(kind: LimitKind, counters: Counters, now_us: int) -> int | None:
    """Return the whole seconds after which the budget's window has ended; None for the total."""
    if kind is LimitKind.SPEND_DAY:
        return (day_ends_us(counters.day) - now_us) // 1_000_000 + 1
    if kind is LimitKind.SPEND_MONTH:
        return (month_ends_us(counters.month) - now_us) // 1_000_000 + 1
    return None


def rate_used(rate: Rate, counters: Counters) -> int:
    """Return how many units of a bucket are taken now; counters must be rolled forward."""
    debt: int = getattr(counters, rate.debt_name)
    return -(-debt // UNIT)


def rate_resets_in(rate: Rate, counters: Counters) -> int:
    """Return the seconds after which the bucket is full again."""
    return ceil_seconds(getattr(counters, rate.debt_name), rate.limit)


def _refusal(  # noqa: PLR0917 - one private constructor for the limits that are not rates
    owner: OwnerState,
    kind: LimitKind,
    column: str,
    used: int,
    requested: int,
    retry_after_seconds: int | None,
    endpoint_class: str,
    resets_in_seconds: int | None = None,
) -> LimitRefusal:
    limit = getattr(owner.limits, column)
    return LimitRefusal(
        kind=kind,
        endpoint_class=EndpointClass(endpoint_class),
        owner=owner.kind,
        source=owner.limits.sources.get(column, owner.kind),
        limit=limit,
        used=used,
        requested=requested,
        retry_after_seconds=retry_after_seconds,
        at_once=limit,
        resets_in_seconds=resets_in_seconds,
    )

"""The arithmetic of limits: pure functions over an owner's counters and the clock.

A rate is a token bucket that refills continuously and holds one minute's worth. Debts are integers in
unit-microseconds: one unit (a request, a token) costs 60,000,000, and every microsecond repays `limit` of them, so
that no division rounds and nothing is lost between calls. A budget is a UTC day or month known by its number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

UNIT = 60_000_000
# A debt column is 64 bits: limit * UNIT must fit.
MAX_RATE = 2**63 // UNIT - 1
_DAY_US = 86_400_000_000
_MAX_DEBT = 2**63 - 1


class LimitKind(StrEnum):
    """The limits that a call takes; the value is used in headers and error bodies."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input-tokens"
    OUTPUT_TOKENS = "output-tokens"
    CONCURRENCY = "concurrency"
    SPEND_DAY = "spend-day"
    SPEND_MONTH = "spend-month"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitValues:
    """The limits of one owner; None: unlimited. `sources` names where each came from ("plan", "customer", "key")."""

    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    concurrency: int | None = None
    max_input_tokens: int | None = None
    spend_per_day_nanousd: int | None = None
    spend_per_month_nanousd: int | None = None
    sources: dict[str, str] = field(default_factory=dict)


LIMIT_COLUMNS = (
    "requests_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "concurrency",
    "max_input_tokens",
    "spend_per_day_nanousd",
    "spend_per_month_nanousd",
)


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
    in_flight: int = 0
    day: int = 0
    day_posted_nanousd: int = 0
    day_held_nanousd: int = 0
    month: int = 0
    month_posted_nanousd: int = 0
    month_held_nanousd: int = 0


COUNTER_COLUMNS = tuple(Counters.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one call asks of every owner's limits, as upper bounds."""

    input_tokens: int
    output_tokens: int
    amount_nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRefusal:
    """Why a call may not pass: whose limit, how full, and when it would fit (None: waiting does not cure it)."""

    kind: LimitKind
    owner: str
    source: str
    limit: int
    used: int
    requested: int
    retry_after_seconds: int | None
    resets_in_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReading:
    """A rate limit as a caller sees it after the call was admitted."""

    kind: LimitKind
    limit: int
    remaining: int
    reset_seconds: int


def day_number(now_us: int) -> int:
    """Return the number of the UTC day since 1970-01-01."""
    return now_us // _DAY_US


def month_number(now_us: int) -> int:
    """Return year * 12 + month - 1 of the UTC calendar month.

    Civil-from-days, Howard Hinnant, http://howardhinnant.github.io/date_algorithms.html: datetime costs ten times it.
    """
    shifted = now_us // _DAY_US + 719_468
    era, day_of_era = divmod(shifted, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    # The algorithm's year begins in March, so its months 10 and 11 are January and February of the next year.
    return (year_of_era + era * 400) * 12 + shifted_month + 2


def month_start_day(month: int) -> int:
    """Return the day number of the first day of a month number (the inverse of `month_number`)."""
    year, month_index = divmod(month, 12)
    shifted_year, shifted_month = (year, month_index - 2) if month_index >= 2 else (year - 1, month_index + 10)
    era, year_of_era = divmod(shifted_year, 400)
    day_of_era = 365 * year_of_era + year_of_era // 4 - year_of_era // 100 + (153 * shifted_month + 2) // 5
    return era * 146_097 + day_of_era - 719_468


def roll_forward(counters: Counters, limits: LimitValues, now_us: int) -> None:
    """Bring `counters` to `now_us`: repay the buckets, begin a new day or month.

    A clock that went back repays nothing.
    """
    elapsed = now_us - counters.updated_us
    if elapsed > 0:
        counters.requests_debt = _repaid(counters.requests_debt, limits.requests_per_minute, elapsed)
        counters.input_tokens_debt = _repaid(counters.input_tokens_debt, limits.input_tokens_per_minute, elapsed)
        counters.output_tokens_debt = _repaid(counters.output_tokens_debt, limits.output_tokens_per_minute, elapsed)
        counters.updated_us = now_us
    day = day_number(now_us)
    if day > counters.day:
        counters.day, counters.day_posted_nanousd, counters.day_held_nanousd = day, 0, 0
        month = month_number(now_us)
        if month > counters.month:
            counters.month, counters.month_posted_nanousd, counters.month_held_nanousd = month, 0, 0


def find_refusal(counters: Counters, limits: LimitValues, demand: Demand, now_us: int) -> LimitRefusal | None:
    """Return the first limit that `demand` does not fit into, or None. Counters must be rolled forward."""
    if limits.concurrency is not None and counters.in_flight >= limits.concurrency:
        return _refusal(LimitKind.CONCURRENCY, "concurrency", counters, limits, counters.in_flight, 1, 1)
    for kind, column, debt, wanted in _rates(counters, demand):
        limit = getattr(limits, column)
        if limit is None or wanted == 0:
            continue
        excess = debt + wanted * UNIT - limit * UNIT
        if excess > 0:
            # More than the bucket holds never fits, however long the wait.
            wait = _ceil_seconds(excess, limit) if wanted <= limit else None
            return _refusal(kind, column, counters, limits, -(-debt // UNIT), wanted, wait)
    amount = demand.amount_nanousd
    limit = limits.spend_per_day_nanousd
    used = counters.day_posted_nanousd + counters.day_held_nanousd
    if limit is not None and used + amount > limit:
        reset = ((counters.day + 1) * _DAY_US - now_us) // 1_000_000 + 1
        return _refusal(LimitKind.SPEND_DAY, "spend_per_day_nanousd", counters, limits, used, amount, None, reset)
    limit = limits.spend_per_month_nanousd
    used = counters.month_posted_nanousd + counters.month_held_nanousd
    if limit is not None and used + amount > limit:
        reset = (month_start_day(counters.month + 1) * _DAY_US - now_us) // 1_000_000 + 1
        return _refusal(LimitKind.SPEND_MONTH, "spend_per_month_nanousd", counters, limits, used, amount, None, reset)
    return None


def take(counters: Counters, limits: LimitValues, demand: Demand) -> None:
    """Take an admitted call's demand. Buckets without a limit keep no debt: one set later starts full."""
    counters.in_flight += 1
    if limits.requests_per_minute is not None:
        counters.requests_debt += UNIT
    if limits.input_tokens_per_minute is not None:
        counters.input_tokens_debt += demand.input_tokens * UNIT
    if limits.output_tokens_per_minute is not None:
        counters.output_tokens_debt += demand.output_tokens * UNIT
    counters.day_held_nanousd += demand.amount_nanousd
    counters.month_held_nanousd += demand.amount_nanousd


def settle(
    counters: Counters,
    *,
    held: Demand,
    held_day: int,
    held_month: int,
    used_input_tokens: int,
    used_output_tokens: int,
    charged_nanousd: int,
) -> None:
    """End a call: free its place, correct the token buckets to what was used, turn held budget into spent.

    A window that has passed since the hold is closed and stays as it is. Buckets repay up to zero: a bucket that
    drained while the call ran has nothing left to give back.
    """
    counters.in_flight = max(0, counters.in_flight - 1)
    counters.input_tokens_debt = _corrected(counters.input_tokens_debt, used_input_tokens - held.input_tokens)
    counters.output_tokens_debt = _corrected(counters.output_tokens_debt, used_output_tokens - held.output_tokens)
    if counters.day == held_day:
        counters.day_held_nanousd -= held.amount_nanousd
        counters.day_posted_nanousd += charged_nanousd
    if counters.month == held_month:
        counters.month_held_nanousd -= held.amount_nanousd
        counters.month_posted_nanousd += charged_nanousd


def budget_left(counters: Counters, limits: LimitValues, *, day: int, month: int) -> int | None:
    """Return what the budgets of that day and month still allow in nano-USD; None where none of them applies."""
    left = []
    if limits.spend_per_day_nanousd is not None and counters.day == day:
        left.append(limits.spend_per_day_nanousd - counters.day_posted_nanousd - counters.day_held_nanousd)
    if limits.spend_per_month_nanousd is not None and counters.month == month:
        left.append(limits.spend_per_month_nanousd - counters.month_posted_nanousd - counters.month_held_nanousd)
    return min(left) if left else None


def readings(counters: Counters, limits: LimitValues) -> Iterator[LimitReading]:
    """Yield what the rate limits of one owner look like now."""
    for kind, column, debt, _ in _rates(counters, _NO_DEMAND):
        limit = getattr(limits, column)
        if limit is not None:
            yield LimitReading(
                kind=kind,
                limit=limit,
                remaining=max(0, (limit * UNIT - debt) // UNIT),
                reset_seconds=_ceil_seconds(debt, limit),
            )


def used_of(counters: Counters) -> tuple[tuple[LimitKind, str, int], ...]:
    """Return (kind, column of `LimitValues`, what is used) of every limit; counters must be rolled forward."""
    return (
        (LimitKind.REQUESTS, "requests_per_minute", -(-counters.requests_debt // UNIT)),
        (LimitKind.INPUT_TOKENS, "input_tokens_per_minute", -(-counters.input_tokens_debt // UNIT)),
        (LimitKind.OUTPUT_TOKENS, "output_tokens_per_minute", -(-counters.output_tokens_debt // UNIT)),
        (LimitKind.CONCURRENCY, "concurrency", counters.in_flight),
        (LimitKind.SPEND_DAY, "spend_per_day_nanousd", counters.day_posted_nanousd + counters.day_held_nanousd),
        (
            LimitKind.SPEND_MONTH,
            "spend_per_month_nanousd",
            counters.month_posted_nanousd + counters.month_held_nanousd,
        ),
    )


_NO_DEMAND = Demand(input_tokens=0, output_tokens=0, amount_nanousd=0)


def _rates(counters: Counters, demand: Demand) -> tuple[tuple[LimitKind, str, int, int], ...]:
    return (
        (LimitKind.REQUESTS, "requests_per_minute", counters.requests_debt, 1),
        (LimitKind.INPUT_TOKENS, "input_tokens_per_minute", counters.input_tokens_debt, demand.input_tokens),
        (
            LimitKind.OUTPUT_TOKENS,
            "output_tokens_per_minute",
            counters.output_tokens_debt,
            demand.output_tokens,
        ),
    )


def _repaid(debt: int, limit: int | None, elapsed_us: int) -> int:
    return max(0, debt - limit * elapsed_us) if limit is not None and debt else 0


def _corrected(debt: int, difference_units: int) -> int:
    return min(_MAX_DEBT, max(0, debt + difference_units * UNIT))


def _ceil_seconds(debt: int, limit: int) -> int:
    return -(-debt // (limit * 1_000_000)) if limit else 0


def _refusal(  # noqa: PLR0917 - one private constructor for six call sites
    kind: LimitKind,
    column: str,
    counters: Counters,
    limits: LimitValues,
    used: int,
    requested: int,
    retry_after_seconds: int | None,
    resets_in_seconds: int | None = None,
) -> LimitRefusal:
    return LimitRefusal(
        kind=kind,
        owner=counters.owner,
        source=limits.sources.get(column, counters.owner.partition(":")[0]),
        limit=getattr(limits, column),
        used=used,
        requested=requested,
        retry_after_seconds=retry_after_seconds,
        resets_in_seconds=resets_in_seconds,
    )

"""What can be limited, and the limits of one owner as frozen values.

Rates (requests, input tokens, output tokens a minute) count per class of endpoints: an embeddings call takes nothing
from chat. Places in flight, the size of one input and budgets count over all classes together.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

# Debts are integers in unit-microseconds: one unit (a request, a token) costs 60,000,000, and every microsecond repays
# `limit` of them, so that no division rounds and nothing is lost between calls.
UNIT = 60_000_000
# A debt column is 64 bits: limit * UNIT must fit.
MAX_RATE = 2**63 // UNIT - 1
MAX_DEBT = 2**63 - 1
DEFAULT_BURST_SECONDS = 60
MAX_BURST_SECONDS = 3_600


class EndpointClass(StrEnum):
    """Endpoints that share their rates."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    SEARCH = "search"
    CONTROL = "control"


class LimitKind(StrEnum):
    """The limits that a call meets; the value is used in headers and error bodies."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input-tokens"
    OUTPUT_TOKENS = "output-tokens"
    CONCURRENCY = "concurrency"
    INPUT_SIZE = "input-size"
    SPEND_DAY = "spend-day"
    SPEND_MONTH = "spend-month"
    SPEND_TOTAL = "spend-total"

    @property
    def is_money(self) -> bool:
        """Return whether its numbers are nano-USD."""
        return self in _MONEY

    @property
    def is_rate(self) -> bool:
        """Return whether it refills a minute at a time."""
        return self in _DEBTS


_MONEY = frozenset({LimitKind.SPEND_DAY, LimitKind.SPEND_MONTH, LimitKind.SPEND_TOTAL})
# Of each rate: the column of its debt, the column of all tokens ever taken, its place in what a call takes.
_DEBTS: Mapping[LimitKind, tuple[str, str | None, int]] = {
    LimitKind.REQUESTS: ("requests_debt", None, 0),
    LimitKind.INPUT_TOKENS: ("input_tokens_debt", "input_tokens_taken", 1),
    LimitKind.OUTPUT_TOKENS: ("output_tokens_debt", "output_tokens_taken", 2),
}
# Chat came first and has the short names. An embedding has no output tokens, a look at one's usage no tokens at all.
RATE_COLUMNS: Mapping[EndpointClass, Mapping[LimitKind, str]] = {
    EndpointClass.CHAT: {
        LimitKind.REQUESTS: "requests_per_minute",
        LimitKind.INPUT_TOKENS: "input_tokens_per_minute",
        LimitKind.OUTPUT_TOKENS: "output_tokens_per_minute",
    },
    EndpointClass.EMBEDDINGS: {
        LimitKind.REQUESTS: "embeddings_requests_per_minute",
        LimitKind.INPUT_TOKENS: "embeddings_input_tokens_per_minute",
    },
    EndpointClass.SEARCH: {
        LimitKind.REQUESTS: "search_requests_per_minute",
        LimitKind.INPUT_TOKENS: "search_input_tokens_per_minute",
    },
    EndpointClass.CONTROL: {LimitKind.REQUESTS: "control_requests_per_minute"},
}
BUDGET_COLUMNS: Mapping[LimitKind, str] = {
    LimitKind.SPEND_DAY: "spend_per_day_nanousd",
    LimitKind.SPEND_MONTH: "spend_per_month_nanousd",
    LimitKind.SPEND_TOTAL: "spend_total_nanousd",
}
# Of each budget: the columns of what is spent of it and of what is held.
BUDGET_COUNTERS: Mapping[LimitKind, tuple[str, str]] = {
    LimitKind.SPEND_DAY: ("day_posted_nanousd", "day_held_nanousd"),
    LimitKind.SPEND_MONTH: ("month_posted_nanousd", "month_held_nanousd"),
    LimitKind.SPEND_TOTAL: ("total_posted_nanousd", "total_held_nanousd"),
}
LIMIT_COLUMNS = (
    *(column for columns in RATE_COLUMNS.values() for column in columns.values()),
    "burst_seconds",
    "concurrency",
    "max_input_tokens",
    *BUDGET_COLUMNS.values(),
)
# A burst is a shape, not a size: there is no higher one.
RAISABLE_COLUMNS = tuple(column for column in LIMIT_COLUMNS if column != "burst_seconds")


def allowed_values(column: str) -> range:
    """Return what a limit's column may hold (a range: its ends tell the bounds)."""
    if column == "burst_seconds":
        return range(1, MAX_BURST_SECONDS + 1)
    if column == "concurrency":
        return range(2**31)
    return range(MAX_DEBT) if column.endswith("_nanousd") else range(MAX_RATE + 1)


class Budget(NamedTuple):
    """One budget that is limited, with everything that its arithmetic needs."""

    kind: LimitKind
    column: str
    # Attributes of `Counters`.
    posted_name: str
    held_name: str
    limit: int


class Rate(NamedTuple):
    """One rate that is limited, with everything that its arithmetic needs."""

    kind: LimitKind
    column: str
    # Attributes of `Counters`.
    debt_name: str
    taken_name: str | None
    # Index into what a call takes: requests, input tokens, output tokens.
    place: int
    limit: int
    # What the bucket holds, in unit-microseconds and in whole units, and the seconds in which that much refills.
    capacity: int
    at_once: int
    window_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitValues:
    """The limits of one owner; None: unlimited.

    `sources` names where each came from ("plan", "customer", "key"), `raised_until_us` the end of those that are
    raised for a time; both by column.
    """

    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    embeddings_requests_per_minute: int | None = None
    embeddings_input_tokens_per_minute: int | None = None
    search_requests_per_minute: int | None = None
    search_input_tokens_per_minute: int | None = None
    control_requests_per_minute: int | None = None
    # How many seconds' worth a bucket holds; None: a minute's.
    burst_seconds: int | None = None
    concurrency: int | None = None
    max_input_tokens: int | None = None
    spend_per_day_nanousd: int | None = None
    spend_per_month_nanousd: int | None = None
    spend_total_nanousd: int | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    raised_until_us: Mapping[str, int] = field(default_factory=dict)
    # The rates that are limited, by class: worked out once, read by every call.
    rates: Mapping[str, tuple[Rate, ...]] = field(init=False, repr=False, compare=False)
    # The budgets that are limited, likewise.
    budgets: tuple[Budget, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the buckets and budgets."""
        burst_us = (DEFAULT_BURST_SECONDS if self.burst_seconds is None else self.burst_seconds) * 1_000_000
        found: dict[str, tuple[Rate, ...]] = {
            endpoint_class: tuple(
                _rate(kind, column, limit, burst_us)
                for kind, column in columns.items()
                if (limit := getattr(self, column)) is not None
            )
            for endpoint_class, columns in RATE_COLUMNS.items()
        }
        object.__setattr__(self, "rates", found)
        budgets = tuple(
            Budget(kind, column, *BUDGET_COUNTERS[kind], limit)
            for kind, column in BUDGET_COLUMNS.items()
            if (limit := getattr(self, column)) is not None
        )
        object.__setattr__(self, "budgets", budgets)


def limits_from(columns: Mapping[str, int | None], sources: Mapping[str, str]) -> LimitValues:
    """Return the limits of an owner's columns."""
    values: dict[str, Any] = dict(columns)
    return LimitValues(**values, sources=sources)


def ceil_seconds(debt: int, limit: int) -> int:
    """Return the seconds, rounded up, in which a rate of `limit` a minute repays a debt in unit-microseconds."""
    return -(-debt // (limit * 1_000_000)) if limit else 0


def _rate(kind: LimitKind, column: str, limit: int, burst_us: int) -> Rate:
    # Never less than one unit, or a low rate with a short burst would admit nothing.
    capacity = min(MAX_DEBT, max(UNIT, limit * burst_us)) if limit else 0
    return Rate(kind, column, *_DEBTS[kind], limit, capacity, capacity // UNIT, ceil_seconds(capacity, limit))


class Raise(NamedTuple):
    """A limit that is higher from one moment to another."""

    # The name of the owner's counters: "customer:1", "key:2".
    owner: str
    column: str
    value: int
    starts_us: int
    ends_us: int


def apply_raises(limits: LimitValues, raises: Iterable[Raise], now_us: int, source: str) -> LimitValues:
    """Return `limits` with those of an owner's `raises` that run at `now_us`; the highest counts.

    Where there is no limit, or a higher one, a raise changes nothing. `source` is who is named as having set it.
    """
    values: dict[str, int] = {}
    until: dict[str, int] = {}
    sources = dict(limits.sources)
    for _, column, value, starts_us, ends_us in raises:
        current = values.get(column, getattr(limits, column))
        if starts_us <= now_us < ends_us and current is not None and value > current:
            values[column], until[column], sources[column] = value, ends_us, source
    return replace(limits, **values, sources=sources, raised_until_us=until) if values else limits  # type: ignore[arg-type]


def counter_name(owner: str, endpoint_class: str) -> str:
    """Return the name of the counters of an owner's rates.

    Chat's stand in the owner's own row, beside its budgets and places: such a call touches one row an owner.
    """
    return owner if endpoint_class == EndpointClass.CHAT else f"{owner}/{endpoint_class}"

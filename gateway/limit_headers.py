"""What answers say about limits, on every transport and on the control plane alike.

`x-ratelimit-{limit,remaining,reset}-{requests,input-tokens,output-tokens}` are the field names that OpenAI's clients
know; `RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-10 (2025-09), an item a rate.
There `q` is what the full bucket holds and `w` the seconds in which that much refills, so that `r` never exceeds `q`.
Headers are lines of text, each with its CRLF, and their fixed parts are made once: every call pays for each of them.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Self, overload

from common.money import format_usd
from keys.limit_values import LimitKind
from keys.limits import LimitReading

WARNING_PERCENT = 80
_MAX_INTEGER = 999_999_999_999_999  # RFC 9651, section 3.3.1
_RATES = (LimitKind.REQUESTS, LimitKind.INPUT_TOKENS, LimitKind.OUTPUT_TOKENS)
_BUDGETS = {LimitKind.SPEND_DAY: "day", LimitKind.SPEND_MONTH: "month", LimitKind.SPEND_TOTAL: "total"}
_PARTS = ("limit", "remaining", "reset")
RATE_HEADERS = {kind: tuple(f"x-ratelimit-{part}-{kind.value}" for part in _PARTS) for kind in _RATES}
PLACE_HEADERS = tuple(f"x-ratelimit-{part}-concurrency" for part in _PARTS[:2])
BUDGET_HEADERS = {kind: tuple(f"x-budget-{part}-{name}" for part in _PARTS) for kind, name in _BUDGETS.items()}


# The draft registers the unit "requests"; tokens have none yet, so the name says it.
_UNITS = {kind: "requests" if kind is LimitKind.REQUESTS else "tokens" for kind in _RATES}


class ToldLimits(Sequence[LimitReading]):
    """Limits with their header lines already made: by the clerk's process, which has the time.

    The readings themselves, which headers do not need any more, are made for whoever looks at them.
    """

    __slots__ = ("_readings", "lines", "values")

    def __init__(self, lines: str, values: Sequence[tuple[Any, ...]]) -> None:
        """`values` are those of the readings, the kind as text."""
        self.lines = lines
        self.values = values
        self._readings: tuple[LimitReading, ...] | None = None

    @classmethod
    def of(cls, readings: Iterable[LimitReading]) -> Self:
        """Return the same, told."""
        # str: an enumeration's member is no plain text.
        return cls(limit_lines(readings), [(str(kind), *rest) for kind, *rest in readings])

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, place: int) -> LimitReading: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[LimitReading]: ...
    def __getitem__(self, place: int | slice) -> LimitReading | Sequence[LimitReading]:
        if self._readings is None:
            self._readings = tuple(LimitReading(LimitKind(kind), *rest) for kind, *rest in self.values)
        return self._readings[place]


def limit_lines(limits: Iterable[LimitReading]) -> str:
    """Return the header lines of the limits that a call met; reset is in seconds until full, or the window's end."""
    if isinstance(limits, ToldLimits):
        return limits.lines
    lines: list[str] = []
    policies: list[str] = []
    states: list[str] = []
    warnings: list[str] = []
    for reading in limits:
        kind, limit, remaining, reset, at_once, window, _, source = reading
        if kind in _BUDGETS:
            line = _budget_line(kind, limit, is_endless=reset is None)
            left = format_usd(remaining)
            lines.append(line % left if reset is None else line % (left, reset))
        elif kind is LimitKind.CONCURRENCY:
            lines.append(_place_line(limit) % remaining)
        else:
            line, policy, state = _rate_lines(kind, limit, at_once, window)
            seconds = reset or 0
            lines.append(line % (remaining, seconds))
            policies.append(policy)
            states.append(state % (min(_MAX_INTEGER, remaining), seconds))
        if remaining * 100 <= at_once * (100 - WARNING_PERCENT):
            warnings.append(f"{kind.value};used={reading.percent_used}%;set-by={source}")
    if policies:
        lines.append(f"ratelimit-policy: {', '.join(policies)}\r\nratelimit: {', '.join(states)}\r\n")
    if warnings:
        lines.append(f"x-limit-warning: {', '.join(warnings)}\r\n")
    return "".join(lines)


# What remains is open, and so are the seconds until there is a reset; the rest of the text is the limit's own.
@lru_cache(maxsize=4_096)
def _rate_lines(kind: LimitKind, limit: int, at_once: int, window: int) -> tuple[str, str, str]:
    """Return the lines of a rate, its item of the policy, and that of the state."""
    names = RATE_HEADERS[kind]
    return (
        f"{names[0]}: {limit}\r\n{names[1]}: %d\r\n{names[2]}: %d\r\n",
        f'"{kind.value}";qu="{_UNITS[kind]}";q={min(_MAX_INTEGER, at_once)};w={window}',
        f'"{kind.value}";r=%d;t=%d',
    )


@lru_cache(maxsize=1_024)
def _place_line(limit: int) -> str:
    return f"{PLACE_HEADERS[0]}: {limit}\r\n{PLACE_HEADERS[1]}: %d\r\n"


@lru_cache(maxsize=4_096)
def _budget_line(kind: LimitKind, limit: int, *, is_endless: bool) -> str:
    names = BUDGET_HEADERS[kind]
    reset = "" if is_endless else f"{names[2]}: %d\r\n"
    return f"{names[0]}: {format_usd(limit)}\r\n{names[1]}: %s\r\n{reset}"


def limit_object(limits: Iterable[LimitReading]) -> dict[str, dict[str, object]]:
    """Return the same for a WebSocket, which has no headers: by kind; money in exact decimals."""
    return {
        reading.kind.value: {
            "limit": format_usd(reading.limit) if reading.kind.is_money else reading.limit,
            "remaining": format_usd(reading.remaining) if reading.kind.is_money else reading.remaining,
            "reset_seconds": reading.reset_seconds,
            "set_by": reading.source,
            "is_warning": reading.percent_used >= WARNING_PERCENT,
        }
        for reading in limits
    }

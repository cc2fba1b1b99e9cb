"""What answers say about limits, on every transport and on the control plane alike.

`x-ratelimit-{limit,remaining,reset}-{requests,input-tokens,output-tokens}` are the field names that OpenAI's clients
know; `RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-10 (2025-09), an item a rate.
There `q` is what the full bucket holds and `w` the seconds in which that much refills, so that `r` never exceeds `q`.
Headers are lines of text, each with its CRLF, and their fixed parts are made once: every call pays for each of them.
"""

from collections.abc import Iterable, Sequence
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


def _template(names: Iterable[str]) -> str:
    return "".join(f"{name}: %s\r\n" for name in names)


# The draft registers the unit "requests"; tokens have none yet, so the name says it.
_UNITS = {kind: "requests" if kind is LimitKind.REQUESTS else "tokens" for kind in _RATES}
_RATE_TEMPLATES = {
    kind: (
        _template(RATE_HEADERS[kind]),
        f'"{kind.value}";qu="{_UNITS[kind]}";q=%d;w=%d',
        f'"{kind.value}";r=%d;t=%d',
    )
    for kind in _RATES
}
_PLACE_TEMPLATE = _template(PLACE_HEADERS)
_BUDGET_TEMPLATES = {kind: (_template(names[:2]), _template(names)) for kind, names in BUDGET_HEADERS.items()}


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
        return cls(limit_lines(readings), [(reading.kind.value, *reading[1:]) for reading in readings])

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
        rate = _RATE_TEMPLATES.get(kind)
        if rate is not None:
            template, policy, state = rate
            seconds = reset or 0
            lines.append(template % (limit, remaining, seconds))
            policies.append(policy % (min(_MAX_INTEGER, at_once), window))
            states.append(state % (min(_MAX_INTEGER, remaining), seconds))
        elif kind is LimitKind.CONCURRENCY:
            lines.append(_PLACE_TEMPLATE % (limit, remaining))
        else:
            endless, windowed = _BUDGET_TEMPLATES[kind]
            if reset is None:
                lines.append(endless % (format_usd(limit), format_usd(remaining)))
            else:
                lines.append(windowed % (format_usd(limit), format_usd(remaining), reset))
        if remaining * 100 <= at_once * (100 - WARNING_PERCENT):
            warnings.append(f"{kind.value};used={reading.percent_used}%;set-by={source}")
    if policies:
        lines.append(f"ratelimit-policy: {', '.join(policies)}\r\nratelimit: {', '.join(states)}\r\n")
    if warnings:
        lines.append(f"x-limit-warning: {', '.join(warnings)}\r\n")
    return "".join(lines)


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

"""Two versions in figures, side by side: what a rollout is decided by, each figure as a pair of bars.

The bars of a pair share one scale, from zero, so that their lengths can be compared; pairs have different units and
are not to be compared with each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.money import format_usd
from prompts.ports import CallNumbers
from prompts.statistics import RunNumbers

# Of the drawing, whose width is that of the page.
_FULL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedBar:
    """One version's side of a figure; `width` is of 100."""

    version: str
    text: str
    width: float
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFigure:
    """One figure of both versions; `change` says how the new one differs, empty where there is nothing to say."""

    label: str
    bars: tuple[ComparedBar, ComparedBar]
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSide:
    """All that is known of a version: calls of customers, and test runs with any model."""

    calls: CallNumbers
    runs: Sequence[RunNumbers]

    @property
    def test_runs(self) -> int:
        return sum(found.runs for found in self.runs)

    @property
    def passed_percent(self) -> float:
        failed = sum(found.failed for found in self.runs)
        return 100 * (self.test_runs - failed) / self.test_runs if self.test_runs else 0


def compare_versions(old: VersionSide, new: VersionSide) -> list[ComparedFigure]:
    """Return the figures of two versions; none where nobody called or tested either."""
    figures: list[ComparedFigure] = []

    def add(label: str, values: tuple[float, float], texts: tuple[str, str], *, is_known: tuple[bool, bool]) -> None:
        if any(is_known):
            figures.append(_figure(label, (old, new), values, texts, is_known))

    called = (old.calls.calls > 0, new.calls.calls > 0)
    tested = (old.test_runs > 0, new.test_runs > 0)
    calls = (old.calls, new.calls)
    add("Calls", (calls[0].calls, calls[1].calls), _texts("{:,}", *(c.calls for c in calls)), is_known=called)
    errors = (_share(calls[0].errors, calls[0].calls), _share(calls[1].errors, calls[1].calls))
    add("Error rate", errors, _texts("{:.1f} %", *errors), is_known=called)
    p50 = (calls[0].p50_ms, calls[1].p50_ms)
    add("Latency, p50", p50, _texts("{:,} ms", *p50), is_known=called)
    p95 = (calls[0].p95_ms, calls[1].p95_ms)
    add("Latency, p95", p95, _texts("{:,} ms", *p95), is_known=called)
    tokens_in = (_each(calls[0].input_tokens, calls[0]), _each(calls[1].input_tokens, calls[1]))
    add("Input tokens a call", tokens_in, _texts("{:,}", *tokens_in), is_known=called)
    tokens_out = (_each(calls[0].output_tokens, calls[0]), _each(calls[1].output_tokens, calls[1]))
    add("Output tokens a call", tokens_out, _texts("{:,}", *tokens_out), is_known=called)
    cost = (_each(calls[0].charged_nanousd, calls[0]), _each(calls[1].charged_nanousd, calls[1]))
    add("Charged a call", cost, (f"{format_usd(cost[0])} USD", f"{format_usd(cost[1])} USD"), is_known=called)
    passed = (old.passed_percent, new.passed_percent)
    texts = tuple(f"{side.passed_percent:.0f} % of {side.test_runs:,}" for side in (old, new))
    add("Test runs passed", passed, (texts[0], texts[1]), is_known=tested)
    return figures


def _figure(
    label: str,
    sides: tuple[VersionSide, VersionSide],
    values: tuple[float, float],
    texts: tuple[str, str],
    is_known: tuple[bool, bool],
) -> ComparedFigure:
    most = max(values)
    bars = tuple(
        ComparedBar(
            version=sides[i].calls.version,
            text=texts[i] if is_known[i] else "no data",
            width=round(_FULL * values[i] / most, 2) if most and is_known[i] else 0,
            is_new=bool(i),
        )
        for i in (0, 1)
    )
    return ComparedFigure(label=label, bars=(bars[0], bars[1]), change=_change(values) if all(is_known) else "")


def _change(values: tuple[float, float]) -> str:
    old, new = values
    if old == new:
        return "the same"
    return f"{100 * (new - old) / old:+,.0f} %" if old else ""


def _texts(shape: str, old: float, new: float) -> tuple[str, str]:
    return shape.format(old), shape.format(new)


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0


def _each(total: int, calls: CallNumbers) -> int:
    return round(total / calls.calls) if calls.calls else 0

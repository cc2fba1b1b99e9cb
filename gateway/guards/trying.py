"""What would the rules of a policy make of a text? Nothing is recorded."""

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from gateway.guards.combining import SurfaceGuard, combine
from gateway.guards.screening import mask_in_answer
from gateway.guards.values import Finding, Rule, Surface
from gateway.guards.windows import TextBlocked, Window


class RuleOutcome(NamedTuple):
    """What one rule says of a text by itself."""

    rule: Rule
    findings: tuple[Finding, ...]
    microseconds: float


class Trial(NamedTuple):
    """What all rules together make of a text."""

    outcomes: tuple[RuleOutcome, ...]
    # What goes on; of a text that is blocked, what an answer would have said before.
    text: str
    blocked_by: Finding | None
    microseconds: float


def try_rules(rules: Sequence[Rule], surface: Surface, text: str) -> Trial:
    """Return what the rules for a surface say of a text, each alone and all together, and how long that takes."""
    found = []
    for rule in rules:
        guard = combine((rule,)).get(surface)
        if guard is not None:
            _, findings, blocked_by, took = _check(guard, text)
            found.append(RuleOutcome(rule, (*findings, *filter(None, [blocked_by])), took))
    guard = combine(tuple(rules)).get(surface)
    if guard is None:
        return Trial((), text, None, 0.0)
    said, _, blocked_by, took = _check(guard, text)
    return Trial(tuple(found), said, blocked_by, took)


def _check(guard: SurfaceGuard, text: str) -> tuple[str, list[Finding], Finding | None, float]:
    # Once before it is measured: an expression prepares itself with the first text that it sees.
    _run(guard, text)
    began = perf_counter()
    said, findings, blocked_by = _run(guard, text)
    return said, findings, blocked_by, (perf_counter() - began) * 1e6


def _run(guard: SurfaceGuard, text: str) -> tuple[str, list[Finding], Finding | None]:
    findings: list[Finding] = []
    window = Window(guard, place="text", note=findings.append, mask=mask_in_answer)
    try:
        return window.feed(text, is_end=True), findings, None
    except TextBlocked as blocked:
        return blocked.released, findings, blocked.finding

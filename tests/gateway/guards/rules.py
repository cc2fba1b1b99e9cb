"""Rules for tests of guards, and a text's way through a window."""

from collections.abc import Iterable
from typing import Any

from gateway.guards.combining import SurfaceGuard, combine
from gateway.guards.screening import mask_in_answer
from gateway.guards.values import Action, Finding, Rule, RuleKind, Surface
from gateway.guards.vault import Vault
from gateway.guards.windows import TextBlocked, Window


def make_rule(kind: str, action: str = "flag", **options: Any) -> Rule:
    """Return a rule named like its kind, for what users say."""
    threshold = {"injection": 60, "topic": 2}.get(kind, 1)
    given = {"policy": "tests", "name": kind, "surfaces": frozenset({Surface.USER}), "threshold": threshold, **options}
    return Rule(kind=RuleKind(kind), action=Action(action), **given)


def guard_of(*rules: Rule) -> SurfaceGuard:
    """Return what texts of users are checked by."""
    return combine(rules)[Surface.USER]


def pass_through(
    guard: SurfaceGuard, pieces: Iterable[str], *, vault: Vault | None = None, is_json: bool = False
) -> tuple[str, list[Finding], Finding | None]:
    """Return what comes out of a text in pieces, what was noted, and what blocked it."""
    notes: list[Finding] = []
    window = Window(guard, place="text", note=notes.append, mask=mask_in_answer, vault=vault, is_json=is_json)
    said = ""
    try:
        for piece in pieces:
            said += window.feed(piece)
        return said + window.feed("", is_end=True), notes, None
    except TextBlocked as blocked:
        return said + blocked.released, notes, blocked.finding


def find(text: str, *rules: Rule) -> list[tuple[str, str]]:
    """Return the rules that find something in a text, and what they find."""
    _, notes, _ = pass_through(guard_of(*rules), [text])
    return [(finding.rule, text[finding.start : finding.end]) for finding in notes]

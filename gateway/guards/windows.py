"""Checking one text, whole or as it comes: what has not been decided yet is held back.

A stream is checked as its whole text would be. What is let go is what no text that may still come can change: for
expressions of bounded length that is everything further from the end than the longest one reaches, for those without
spaces everything before the last space. So cutting a text anywhere changes neither what is found nor what comes out.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.guards.combining import SurfaceGuard, Target
from gateway.guards.folding import Folded, fold
from gateway.guards.languages import JUDGED_CHARACTERS, find_language
from gateway.guards.scanner import Hit, Hits
from gateway.guards.values import SPAN_KINDS, Action, Finding, Rule
from gateway.guards.vault import LONGEST_PLACEHOLDER, PLACEHOLDER, Vault, escape

# Returns what stands in an outgoing text for what a rule found there.
Mask = Callable[[Target, str], str]


class TextBlocked(Exception):
    """A rule does not let the text through; `released` is what came before and may go."""

    def __init__(self, finding: Finding, released: str) -> None:
        super().__init__(finding.rule)
        self.finding = finding
        self.released = released


class _Span(NamedTuple):
    """A part of the folded text that is replaced; what puts back gives way to what takes out."""

    start: int
    end: int
    target: Target | None = None


class _Outer(NamedTuple):
    """Up to where something was found, and how strong the action is that it caused."""

    end: int
    strength: int


_NOTHING = SurfaceGuard(None)


class Window:
    """One text on its way."""

    def __init__(
        self,
        guard: SurfaceGuard | None,
        *,
        place: str,
        note: Callable[[Finding], None],
        mask: Mask,
        vault: Vault | None = None,
        is_json: bool = False,
    ) -> None:
        """`vault` has what is put back into the text; `is_json`: the text is JSON, values are escaped for it."""
        self._guard = guard or _NOTHING
        self._place = place
        self._note = note
        self._mask = mask
        self._vault = vault
        self._is_json = is_json
        # Of the text as given: not decided yet, and how much has been.
        self._pending = ""
        self._done = 0
        # The last character that has been decided, as rules see it: it says whether a word begins behind it.
        self._before = ""
        self._points: dict[Rule, int] = {}
        self._counted: set[tuple[int, Rule]] = set()
        self._is_judged = not self._guard.languages
        # In the middle of something too long to wait for, which has been taken out as far as it had come.
        self._is_swallowing = False
        self._counted_lengths: set[Rule] = set()

    def feed(self, text: str, *, is_end: bool = False) -> str:
        """Take a piece in and return what may go out. Raises TextBlocked."""
        self._pending += self._swallow(text) if self._is_swallowing else text
        folded = fold(self._pending)
        if not self._is_judged:
            if not is_end and len(folded.text) < JUDGED_CHARACTERS:
                return ""
            self._judge_language(folded.text)
        too_long = self._measure()
        view, offset = self._before + folded.text, len(self._before)
        hits, decided, is_cut = self._find(view, offset, is_end=is_end)
        restored = [] if self._vault is None else [_Span(*m.span()) for m in PLACEHOLDER.finditer(view, offset)]
        if self._vault is not None and not is_end:
            decided = _before_open_placeholder(view, decided)
        if too_long is not None:
            decided = min(decided, max(0, too_long.start - self._done) + offset)
        cut = _cut_between((*hits, *restored), decided)
        spans = [span for span in restored if span.end <= cut]
        self._act([hit for hit in hits if hit.start < cut], spans, folded, view, offset)
        if is_cut:
            self._is_swallowing = any(span.target is not None and span.end == len(view) for span in spans)
        released = self._compose(folded, spans, cut, offset)
        if too_long is not None:
            raise TextBlocked(too_long, released)
        given = folded.given_offset(cut - offset)
        self._done += given
        self._pending = self._pending[given:]
        self._before = view[cut - 1 : cut] if cut else ""
        return released

    def _find(self, view: str, offset: int, *, is_end: bool) -> Hits:
        if self._guard.scanner is None:
            return Hits([], len(view))
        return self._guard.scanner.find(view, offset, is_end=is_end)

    def _swallow(self, text: str) -> str:
        """Return what comes after the rest of what is being taken out: it ends with the first space."""
        for place, character in enumerate(text):
            if character.isspace():
                self._is_swallowing = False
                self._done += place
                return text[place:]
        self._done += len(text)
        return ""

    def _act(self, hits: list[Hit], spans: list[_Span], folded: Folded, view: str, offset: int) -> None:
        """Note what was found and add what is to be taken out to `spans`. Raises TextBlocked.

        What lies inside of something else that was found, like what looks like a telephone's number in that of an
        account, is a part of it.
        """
        outer = _Outer(0, 0)
        for hit in hits:
            # What stands behind a backslash belongs to it.
            start = hit.start + (self._is_json and view[hit.start - 1 : hit.start] == "\\")
            for target in self._fired(hit):
                strength = target.rule.action.strength
                if target.rule.kind in SPAN_KINDS and hit.end <= outer.end and strength <= outer.strength:
                    continue
                outer = _Outer(hit.end, strength)
                finding = self._finding(target, folded, start - offset, hit.end - offset)
                if finding.action is Action.BLOCK:
                    cut = _cut_between(spans, start)
                    raise TextBlocked(finding, self._compose(folded, [s for s in spans if s.end <= cut], cut, offset))
                self._note(finding)
                if finding.action is Action.REDACT:
                    spans.append(_Span(start, hit.end, target))

    # ---- what rules say

    def _fired(self, hit: Hit) -> Iterable[Target]:
        """Yield what a match means: each span by itself, and what is counted once it comes to enough."""
        for target in self._guard.targets[hit.target]:
            rule = target.rule
            if rule.kind in SPAN_KINDS:
                yield target
                continue
            if (hit.target, rule) in self._counted:
                continue
            self._counted.add((hit.target, rule))
            points = self._points.get(rule, 0)
            self._points[rule] = points + target.weight
            if points < rule.threshold <= points + target.weight:
                yield target

    def _judge_language(self, text: str) -> None:
        self._is_judged = True
        language = find_language(text)
        for rule in self._guard.languages:
            if language is None or language in rule.languages:
                continue
            end = min(len(text), JUDGED_CHARACTERS)
            finding = Finding(rule.policy, rule.name_of(language), rule.action, self._place, 0, end)
            if rule.action is Action.BLOCK:
                raise TextBlocked(finding, "")
            self._note(finding)

    def _measure(self) -> Finding | None:
        """Return what blocks a text that has become too long."""
        length = self._done + len(self._pending)
        for rule in self._guard.lengths:
            if length <= rule.max_characters or rule in self._counted_lengths:
                continue
            self._counted_lengths.add(rule)
            end = rule.max_characters
            finding = Finding(rule.policy, rule.name, rule.action, self._place, end, end)
            if rule.action is Action.BLOCK:
                return finding
            self._note(finding)
        return None

    def _finding(self, target: Target, folded: Folded, start: int, end: int) -> Finding:
        return Finding(
            policy=target.rule.policy,
            rule=target.rule.name_of(target.entity),
            action=target.rule.action,
            place=self._place,
            start=self._done + folded.given_offset(start),
            end=self._done + folded.given_offset(end),
        )

    # ---- what comes out

    def _compose(self, folded: Folded, spans: list[_Span], cut: int, offset: int) -> str:
        """Return the text up to `cut` with its spans replaced."""
        if not spans and cut == len(folded.text) + offset:
            return self._pending
        parts = []
        done = 0
        for span in _merged(spans):
            if span.start >= cut:
                break
            start, end = (folded.given_offset(place - offset) for place in (span.start, span.end))
            parts.append(self._pending[done:start])
            parts.append(self._replacement(span, self._pending[start:end]))
            done = end
        parts.append(self._pending[done : max(done, folded.given_offset(cut - offset))])
        return "".join(parts)

    def _replacement(self, span: _Span, found: str) -> str:
        if span.target is not None:
            return self._mask(span.target, found)
        value = self._vault.find(found) if self._vault is not None else None
        if value is None:
            return found
        return escape(value) if self._is_json else value


def _cut_between(parts: Iterable[Hit | _Span], cut: int) -> int:
    """Return the last place up to `cut` that is inside of none of the parts."""
    for part in sorted(parts, reverse=True):
        if part.start < cut < part.end:
            cut = part.start
    return cut


def _before_open_placeholder(view: str, decided: int) -> int:
    """Return the last place up to `decided` that is before a placeholder that is not whole yet."""
    at = view.rfind("[", max(0, len(view) - LONGEST_PLACEHOLDER))
    return min(at, decided) if at >= 0 and "]" not in view[at:] else decided


def _merged(spans: list[_Span]) -> list[_Span]:
    """Return the spans in order, those that overlap as one: as what takes out, by the name of its longest."""
    merged: list[_Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            longest = max(last, span, key=lambda s: (s.target is not None, s.end - s.start))
            merged[-1] = _Span(last.start, max(last.end, span.end), longest.target)
        else:
            merged.append(span)
    return merged

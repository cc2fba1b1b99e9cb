"""Everything that the rules for one surface look for, tried at once and in linear time.

RE2 decides in one pass over a text which expressions occur at all; only those are then searched for. Lists of words are
one Aho-Corasick automaton. Both take time that is linear in the text, whatever it says and whatever a rule's author
wrote, and both leave Python's lock while they work.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import re2
from ahocorasick_rs import AhoCorasick

# Enough for every expression of a policy at once; RE2 forgets and goes on where a text needs more.
_SET_MEMORY_BYTES = 64 << 20
_EXPRESSION_MEMORY_BYTES = 16 << 20
# Signs of scripts that write no spaces between words: what stands beside a term there is no sign of another word.
_FIRST_UNSPACED = 0x2E80
_SPACES = " \t\r\n"
# Nobody waits for the end of a longer match: each piece that is waited for is searched with all that came before it.
_MOST_OPEN_CHARACTERS = 8_192


class Probe(NamedTuple):
    """One expression to look for; equal probes of several rules are one."""

    pattern: str
    # A simpler expression that occurs in every text with a match, tried first; empty: the expression itself.
    hint: str = ""
    # So many characters from its beginning decide whether something is a match.
    reach: int = 1
    is_token: bool = False
    # How much of a match counts; where that is nothing, something else may begin inside of it.
    check: Callable[[str], int] | None = None
    # But nothing does, so that a text made of half matches is not searched from every place of it.
    is_solid: bool = False
    ignores_case: bool = False


class Hit(NamedTuple):
    """A match, in characters of the text that was searched; `target` is the position of what was looked for."""

    start: int
    end: int
    target: int


class Hits(NamedTuple):
    """What was found, in order, and up to where a text that goes on has been decided."""

    hits: list[Hit]
    decided: int
    # The last match goes on, for longer than anybody waits.
    is_cut: bool = False


class Scanner:
    """Looks for expressions (targets 0, 1, ...) and for terms, whose targets follow. Safe to share between threads."""

    def __init__(self, probes: Sequence[Probe], terms: Sequence[str] = ()) -> None:
        """Compile. Raises re2.error for an expression that is none, or is too large."""
        self._probes = tuple(probes)
        self._expressions = [_compile(probe.pattern, ignores_case=probe.ignores_case) for probe in probes]
        self._set = _compile_set(probes) if probes else None
        self._words = Words(terms) if terms else None
        self._first_term = len(self._probes)
        spaced = [probe.reach for probe in probes if not probe.is_token]
        self._reach = max([*spaced, self._words.reach if self._words else 0])
        self._token_reach = max([probe.reach for probe in probes if probe.is_token], default=0)

    def find(self, text: str, start: int = 0, *, is_end: bool = True) -> Hits:
        """Return what begins at `start` or later; what is before it is only looked at for the edges of words.

        Where the text goes on, only what more text cannot change is returned, and `decided` is where to begin again.
        """
        decided = len(text) if is_end else self._decided(text, start)
        hits: list[Hit] = []
        if self._set is not None:
            raw = text.encode("utf-8", "replace")
            found = self._set.Match(raw)
            if found:
                known = text if len(raw) == len(text) else raw.decode()
                for index in found:
                    hits += self._find_one(index, known, raw, start)
        if self._words is not None:
            hits += (Hit(at, to, self._first_term + index) for at, to, index in self._words.find(text, start))
        hits.sort(key=_order)
        if is_end:
            return Hits(hits, decided)
        # A match at the very end may still grow, or be none after all.
        open_from = min((hit.start for hit in hits if hit.end >= len(text)), default=len(text))
        if len(text) - open_from > _MOST_OPEN_CHARACTERS:
            return Hits(hits, len(text), is_cut=True)
        decided = min(decided, open_from)
        return Hits([hit for hit in hits if hit.start < decided], decided)

    def _decided(self, text: str, start: int) -> int:
        behind_space = max(map(text.rfind, _SPACES)) + 1
        spaced = len(text) - self._reach - 1 if self._reach else len(text)
        tokens = max(len(text) - self._token_reach - 1, behind_space) if self._token_reach else len(text)
        return max(start, min(spaced, tokens))

    def _find_one(self, index: int, text: str, raw: bytes, start: int) -> Iterator[Hit]:
        """Yield the matches of one expression, which do not overlap."""
        expression, check = self._expressions[index], self._probes[index].check
        is_plain = len(raw) == len(text)
        position = start if is_plain else len(text[:start].encode())
        # Where the bytes before `byte_at` end in characters: counted once, going on.
        byte_at, character_at = position, start
        while (found := expression.search(raw, position)) is not None:
            first, last = found.span()
            if last == first:
                position = last + 1
                if position > len(raw):
                    return
                continue
            if is_plain:
                at, to = first, last
            else:
                at = character_at + len(raw[byte_at:first].decode())
                to = at + len(raw[first:last].decode())
                byte_at, character_at = first, at
            length = to - at if check is None else check(text[at:to])
            if length:
                yield Hit(at, at + length, index)
                position = first + len(text[at : at + length].encode())
            else:
                position = last if self._probes[index].is_solid else first + len(text[at].encode())


class Words:
    """A list of terms, found as whole words whatever their case; a term that ends in * may go on."""

    def __init__(self, terms: Sequence[str]) -> None:
        self._bare = [_lower(term.rstrip("*")) for term in terms]
        self._is_prefix = [term.endswith("*") for term in terms]
        self._automaton = AhoCorasick(self._bare)
        # One more, to see that the word ends.
        self.reach = max(map(len, self._bare)) + 1

    def find(self, text: str, start: int) -> Iterator[tuple[int, int, int]]:
        """Yield where terms begin and end, and their positions in the list."""
        lowered = _lower(text)
        for index, at, to in self._automaton.find_matches_as_indexes(lowered, overlapping=True):
            if at < start or (at and _is_one_word(lowered[at - 1], lowered[at])):
                continue
            if self._is_prefix[index] or to == len(lowered) or not _is_one_word(lowered[to - 1], lowered[to]):
                yield at, to, index


def _order(hit: Hit) -> tuple[int, int, int]:
    """Sort by where matches begin, of several at one place the longest first."""
    return hit.start, -hit.end, hit.target


def _lower(text: str) -> str:
    lowered = text.lower()
    # Of all letters one becomes two, which would move every place behind it.
    return lowered if len(lowered) == len(text) else text.replace("\u0130", "i").lower()


def _is_one_word(before: str, after: str) -> bool:
    """Return whether two neighbouring characters belong to one word."""
    return all((c.isalnum() or c == "_") and ord(c) < _FIRST_UNSPACED for c in (before, after))


def _compile(pattern: str, *, ignores_case: bool) -> Any:
    return re2.compile(pattern.encode(), _options(_EXPRESSION_MEMORY_BYTES, ignores_case=ignores_case))


def _compile_set(probes: Sequence[Probe]) -> Any:
    found = re2.Set.SearchSet(_options(_SET_MEMORY_BYTES, ignores_case=False))
    for probe in probes:
        hint = probe.hint or probe.pattern
        found.Add(f"(?i:{hint})".encode() if probe.ignores_case else hint.encode())
    found.Compile()
    return found


def _options(memory_bytes: int, *, ignores_case: bool) -> Any:
    options = re2.Options()
    options.max_mem = memory_bytes
    options.log_errors = False
    options.case_sensitive = not ignores_case
    return options

"""A text as a reader sees it: without invisible characters, full-width and mathematical letters as plain ones.

Rules look at this form, so that they are not passed by with letters that only look different. It is made character by
character, so the form of a text is that of its pieces, and every place in it leads back to a place in the text.
"""

import re
import unicodedata
from bisect import bisect_right
from functools import cache
from typing import NamedTuple

# Soft hyphen, spaces, zero-width and direction marks, superscripts, letter-like symbols, enclosed letters, variation
# selectors, full-width forms, mathematical letters, and the invisible tag letters that can hide whole sentences.
_STRANGE = re.compile(
    "[\u00a0\u00ad\u115f\u1160\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2070-\u209f\u2100-\u214f\u2460-\u24ff"
    "\u3000\u3164\ufe00-\ufe0f\ufeff\uff01-\uff5e\U0001d400-\U0001d7ff\U000e0000-\U000e007f]"
)
_TAGS = range(0xE0020, 0xE007F)
_FILLERS = frozenset("\u00ad\u115f\u1160\u180e\u3164")


class Folded(NamedTuple):
    """The form that rules see, and where its parts come from."""

    text: str
    # Where the two drift apart: ends of replaced characters, in the form and in the text; empty: they are the same.
    folded_at: tuple[int, ...] = ()
    given_at: tuple[int, ...] = ()

    def given_offset(self, folded_offset: int) -> int:
        """Return the place in the given text of a place in the form."""
        if not self.folded_at:
            return folded_offset
        following = bisect_right(self.folded_at, folded_offset)
        offset = folded_offset
        if following:
            offset += self.given_at[following - 1] - self.folded_at[following - 1]
        # Inside of what one character became: its end.
        return offset if following == len(self.given_at) else min(offset, self.given_at[following])


def fold(text: str) -> Folded:
    """Return the form of a text that rules see."""
    if text.isascii() or _STRANGE.search(text) is None:
        return Folded(text)
    parts: list[str] = []
    folded_at: list[int] = []
    given_at: list[int] = []
    length = end = 0
    for found in _STRANGE.finditer(text):
        shown = _fold_character(found.group())
        length += found.start() - end + len(shown)
        parts += (text[end : found.start()], shown)
        end = found.end()
        folded_at.append(length)
        given_at.append(end)
    parts.append(text[end:])
    return Folded("".join(parts), tuple(folded_at), tuple(given_at))


@cache
def _fold_character(character: str) -> str:
    code = ord(character)
    if code in _TAGS:
        return chr(code - 0xE0000)
    if character in _FILLERS or unicodedata.category(character) in ("Cf", "Mn") or code >= 0xE0000:
        return ""
    if unicodedata.category(character) in ("Zs", "Zl", "Zp"):
        return " "
    return unicodedata.normalize("NFKC", character)

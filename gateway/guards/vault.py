"""What was taken out of a call before it left, and how it finds its way back into the answer.

Placeholders are numbered in the order in which the values come; one value has one placeholder in the whole call, so
that the model can still tell who is who. Lives as long as its call, in memory only.
"""

import re
from collections.abc import Callable, Sequence

import orjson

# As `Vault.mask` writes them. Bounded, so that a stream need not be held back for long.
PLACEHOLDER = re.compile(r"\[[A-Z][A-Z0-9_]{0,60}_[0-9]{1,6}\]")
LONGEST_PLACEHOLDER = 72


class Vault:
    """The values of one call."""

    def __init__(self) -> None:
        self._placeholders: dict[tuple[str, str], str] = {}
        self._numbers: dict[str, int] = {}
        self._values: dict[str, str] = {}
        self._read_given: Callable[[], Sequence[str]] | None = None
        self._given: Sequence[str] = ()

    @property
    def restores(self) -> bool:
        """Return whether anything can be put back."""
        return bool(self._values)

    def avoid(self, read_texts: Callable[[], Sequence[str]]) -> None:
        """Never use a placeholder that is in one of these: the caller's own words would be taken for it.

        They are read once something is to be masked.
        """
        self._read_given = read_texts

    def mask(self, label: str, value: str, *, restores: bool) -> str:
        """Return what stands for a value."""
        known = self._placeholders.get((label, value))
        if known is not None:
            return known
        if self._read_given is not None:
            self._given, self._read_given = self._read_given(), None
        number = self._numbers.get(label, 0) + 1
        while any(f"[{label}_{number}]" in text for text in self._given):
            number += 1
        self._numbers[label] = number
        placeholder = self._placeholders[label, value] = f"[{label}_{number}]"
        if restores:
            self._values[placeholder] = value
        return placeholder

    def find(self, placeholder: str) -> str | None:
        """Return the value that a placeholder stands for, where it may be put back."""
        return self._values.get(placeholder)

    def hide(self, text: str) -> str:
        """Return a text that was restored as it was before: it goes to a model again."""
        # The longest first: one may be a part of another.
        for placeholder, value in sorted(self._values.items(), key=lambda item: -len(item[1])):
            text = text.replace(value, placeholder).replace(escape(value), placeholder)
        return text


def escape(value: str) -> str:
    """Return a value as it stands inside of a JSON string."""
    return orjson.dumps(value).decode()[1:-1]

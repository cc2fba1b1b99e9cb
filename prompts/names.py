"""Names of prompts and labels, version numbers, and the pin by which a caller says which version it wants.

The namespaces are disjoint by their first character: labels begin with a letter, numbers with a digit. So a label
can never be taken for a version, whatever people name it.
"""

import re
from dataclasses import dataclass
from enum import IntEnum

from prompts.errors import PinInvalid

PRODUCTION = "production"
MAX_NAME_LENGTH = 80
MAX_LABEL_LENGTH = 40

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*\Z")
_NUMBER = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})\Z")
_MAJOR = re.compile(r"\d{1,6}\Z")
_REFERENCE = re.compile(r"(?P<name>[^@\s]+)@(?P<pin>[^@\s]+)\Z")


class ChangeLevel(IntEnum):
    """How much a version differs from the one before, by what it means to a caller."""

    PATCH = 1
    MINOR = 2
    MAJOR = 3

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class VersionNumber:
    """A semantic version number (https://semver.org, without pre-releases)."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def next(self, level: ChangeLevel) -> "VersionNumber":
        """Return the number that a change of `level` leads to."""
        if level is ChangeLevel.MAJOR:
            return VersionNumber(major=self.major + 1, minor=0, patch=0)
        if level is ChangeLevel.MINOR:
            return VersionNumber(major=self.major, minor=self.minor + 1, patch=0)
        return VersionNumber(major=self.major, minor=self.minor, patch=self.patch + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Which version a caller wants: exactly one of the three is set."""

    label: str | None = None
    major: int | None = None
    number: VersionNumber | None = None

    def __str__(self) -> str:
        return str(self.label or self.number or self.major)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptReference:
    """Another prompt and the version of it that is wanted, as an include names it."""

    name: str
    pin: Pin

    def __str__(self) -> str:
        return f"{self.name}@{self.pin}"


def is_valid_name(text: str) -> bool:
    """Return whether `text` may name a prompt: lower-case words and digits, joined by dots, dashes, underscores."""
    return len(text) <= MAX_NAME_LENGTH and _NAME.match(text) is not None


def is_valid_label(text: str) -> bool:
    """Return whether `text` may be a label: as names are, so never a number."""
    return len(text) <= MAX_LABEL_LENGTH and _NAME.match(text) is not None


def parse_number(text: str) -> VersionNumber | None:
    """Return the number that a text such as "2.1.0" writes, or None."""
    found = _NUMBER.match(text)
    if found is None:
        return None
    major, minor, patch = map(int, found.groups())
    return VersionNumber(major=major, minor=minor, patch=patch)


def parse_pin(text: str | None) -> Pin:
    """Return the pin that `text` writes ("2", "2.1.0", "staging", each also with a leading "@"); none: production.

    Raises PinInvalid for anything else.
    """
    if not text:
        return Pin(label=PRODUCTION)
    bare = text.removeprefix("@")
    if _MAJOR.match(bare):
        return Pin(major=int(bare))
    number = parse_number(bare)
    if number is not None:
        return Pin(number=number)
    if is_valid_label(bare):
        return Pin(label=bare)
    raise PinInvalid(pin=text)


def parse_reference(text: str) -> PromptReference | None:
    """Return the reference that "name@pin" writes, or None. Raises PinInvalid for a pin that is none."""
    found = _REFERENCE.match(text)
    if found is None or not is_valid_name(found["name"]):
        return None
    return PromptReference(name=found["name"], pin=parse_pin(found["pin"]))

"""The disjoint classes that a call's tokens fall into. Their sum is what the provider counted in total."""

from collections.abc import Iterable
from typing import NamedTuple


class TokenCounts(NamedTuple):
    """Tokens of one call; no token is in two classes."""

    # Neither read from nor written to the provider's cache, neither audio nor image.
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    # Neither reasoning nor audio nor image.
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image_input: int = 0
    image_output: int = 0

    @property
    def input_total(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.audio_input + self.image_input

    @property
    def output_total(self) -> int:
        return self.output + self.reasoning + self.audio_output + self.image_output


INPUT_CLASSES = ("input", "cache_read", "cache_write", "audio_input", "image_input")
OUTPUT_CLASSES = ("output", "reasoning", "audio_output", "image_output")
TOKEN_CLASSES = (
    "input",
    "cache_read",
    "cache_write",
    "output",
    "reasoning",
    "audio_input",
    "audio_output",
    "image_input",
    "image_output",
)
NO_TOKENS = TokenCounts()


def add_tokens(counts: Iterable[TokenCounts]) -> TokenCounts:
    """Return the sum, class by class."""
    return TokenCounts(*map(sum, zip(NO_TOKENS, *counts, strict=True)))

"""The disjoint classes that a call's tokens fall into. Their sum is what the provider counted in total."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Tokens of one call; no token is in two classes."""

    # Neither read from nor written to the provider's cache, not audio.
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    # Neither reasoning nor audio.
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0

    @property
    def input_total(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.audio_input

    @property
    def output_total(self) -> int:
        return self.output + self.reasoning + self.audio_output


TOKEN_CLASSES = ("input", "cache_read", "cache_write", "output", "reasoning", "audio_input", "audio_output")
NO_TOKENS = TokenCounts()

"""What tokens cost: rates of each class, and tables of rates by the size of a call and by how it was processed.

A rate is integer nano-USD per million tokens. The sum over the classes is divided once by a million, half to even, so
a call's cost is exact to half a nano-dollar and never depends on the order of the sum. A table is precomputed when the
price book is read (markup included): what a call pays for its price is a look-up and one sum of integers.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

from billing.tokens import INPUT_CLASSES, TokenCounts
from common.money import divide_half_even

_MILLION = 1_000_000
# 100 %: markups and discounts are counted in hundredths of a percent.
WHOLE_BASIS_POINTS = 10_000


class Processing(StrEnum):
    """How the provider worked on a call. BATCH covers all that it sells at its batch price (OpenAI's `flex` too)."""

    STANDARD = "standard"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Nano-USD per million tokens of each class, and nano-USD per call."""

    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    audio_input: int
    audio_output: int
    image_input: int
    image_output: int
    request: int = 0

    def cost(self, tokens: TokenCounts) -> int:
        """Return the cost of one call in nano-USD, rounded once, half to even."""
        millionths = (
            tokens.input * self.input
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
            + tokens.output * self.output
            + tokens.reasoning * self.reasoning
            + tokens.audio_input * self.audio_input
            + tokens.audio_output * self.audio_output
            + tokens.image_input * self.image_input
            + tokens.image_output * self.image_output
        )
        return divide_half_even(millionths, _MILLION) + self.request

    def upper_bound(self, *, input_tokens: int, output_tokens: int) -> int:
        """Return the most that a call of at most so many tokens can cost: each at its dearest class, rounded up."""
        dearest_input = max(self.input, self.cache_read, self.cache_write, self.audio_input, self.image_input)
        dearest_output = max(self.output, self.reasoning, self.audio_output, self.image_output)
        return -(-(input_tokens * dearest_input + output_tokens * dearest_output) // _MILLION) + self.request

    def lower_bound(self, *, input_tokens: int) -> int:
        """Return the least that a call with so many input tokens costs: all of the cheapest class, nothing said."""
        cheapest: int = min(getattr(self, token_class) for token_class in INPUT_CLASSES)
        return input_tokens * cheapest // _MILLION + self.request

    def scaled(self, basis_points: int) -> "Rates":
        """Return every rate times `basis_points` / 10,000, each rounded half to even."""
        if basis_points == WHOLE_BASIS_POINTS:
            return self
        return Rates(
            **{
                field.name: divide_half_even(getattr(self, field.name) * basis_points, WHOLE_BASIS_POINTS)
                for field in fields(self)
            }
        )

    @property
    def is_free(self) -> bool:
        """Return whether nothing of it costs anything."""
        return not any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateBand:
    """Rates of a whole call whose input (all classes together) exceeds `above_input_tokens`."""

    above_input_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTable:
    """Bands in ascending order, the first above 0; `batch` is empty where batches cost the same."""

    standard: tuple[RateBand, ...]
    batch: tuple[RateBand, ...] = ()

    @property
    def base(self) -> Rates:
        """Return the rates of a short call, processed as usual."""
        return self.standard[0].rates

    def rates_for(self, input_tokens: int, processing: Processing = Processing.STANDARD) -> Rates:
        """Return the rates of a call with so many input tokens; they apply to all of its tokens."""
        bands = self.batch if self.batch and processing is Processing.BATCH else self.standard
        rates = bands[0].rates
        for band in bands[1:]:
            if input_tokens <= band.above_input_tokens:
                break
            rates = band.rates
        return rates

    def cost(self, tokens: TokenCounts, processing: Processing = Processing.STANDARD) -> int:
        """Return the cost of one call in nano-USD, rounded once, half to even."""
        return self.rates_for(tokens.input_total, processing).cost(tokens)

    def upper_bound(self, *, input_tokens: int, output_tokens: int) -> int:
        """Return the most that a call of at most so many tokens can cost, in whichever band it ends up."""
        if len(self.standard) == 1 and not self.batch:
            return self.base.upper_bound(input_tokens=input_tokens, output_tokens=output_tokens)
        most = 0
        for bands in (self.standard, self.batch):
            for index, band in enumerate(bands):
                if index and band.above_input_tokens >= input_tokens:
                    break
                # A call of this band has no more input than where the next one begins.
                end = bands[index + 1].above_input_tokens if index + 1 < len(bands) else input_tokens
                bound = band.rates.upper_bound(input_tokens=min(end, input_tokens), output_tokens=output_tokens)
                most = max(most, bound)
        return most

    def scaled(self, basis_points: int) -> "RateTable":
        """Return the table with every rate times `basis_points` / 10,000."""
        if basis_points == WHOLE_BASIS_POINTS:
            return self
        return RateTable(standard=_scaled(self.standard, basis_points), batch=_scaled(self.batch, basis_points))

    @property
    def is_free(self) -> bool:
        """Return whether no band costs anything."""
        return all(band.rates.is_free for band in (*self.standard, *self.batch))


def _scaled(bands: tuple[RateBand, ...], basis_points: int) -> tuple[RateBand, ...]:
    return tuple(
        RateBand(above_input_tokens=band.above_input_tokens, rates=band.rates.scaled(basis_points)) for band in bands
    )


def flat_table(rates: Rates) -> RateTable:
    """Return the table of a price without tiers and without a batch price."""
    return RateTable(standard=(RateBand(above_input_tokens=0, rates=rates),))

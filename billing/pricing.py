"""What a call costs: price versions as frozen values, and the one rounding.

A price is nano-USD per million tokens. The sum over the classes is divided once by a million, half to even, so a
call's cost is exact to half a nano-dollar and never depends on the order of the sum.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.errors import PriceInvalid
from billing.models import PriceVersion
from billing.tokens import TOKEN_CLASSES, TokenCounts
from common.clock import to_us
from common.money import divide_half_even
from common.sql import Sql

_MILLION = 1_000_000
RATE_COLUMNS = tuple(f"{c}_nanousd" for c in TOKEN_CLASSES)
PRICE_COLUMNS = (*RATE_COLUMNS, "request_nanousd")
PROVIDER_COLUMNS = tuple(f"provider_{c}" for c in PRICE_COLUMNS)
# Beyond 10,000 USD a million tokens a price is a mistyped unit (per thousand, per token), not a price.
MAX_RATE_NANOUSD = 10_000 * 10**9


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
        )
        return divide_half_even(millionths, _MILLION) + self.request

    def upper_bound(self, *, input_tokens: int, output_tokens: int) -> int:
        """Return the most that a call of at most so many tokens can cost: each at its dearest class, rounded up."""
        dearest_input = max(self.input, self.cache_read, self.cache_write, self.audio_input)
        dearest_output = max(self.output, self.reasoning, self.audio_output)
        return -(-(input_tokens * dearest_input + output_tokens * dearest_output) // _MILLION) + self.request


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price version: what customers pay and what the platform pays."""

    version_id: int
    model: str
    effective_us: int
    rates: Rates
    provider_rates: Rates


class PriceBook:
    """All price versions, frozen; answers which one counts at a moment."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._by_model: dict[str, list[Price]] = {}
        self._by_version: dict[int, Price] = {}
        for price in sorted(prices, key=lambda p: p.effective_us):
            self._by_model.setdefault(price.model, []).append(price)
            self._by_version[price.version_id] = price

    def find_price(self, model: str, at_us: int) -> Price | None:
        """Return the newest version in force at `at_us`, or None: such a call must not be served."""
        versions = self._by_model.get(model, ())
        position = bisect_right(versions, at_us, key=lambda p: p.effective_us)
        return versions[position - 1] if position else None

    def get_version(self, version_id: int) -> Price:
        """Return a version by id; KeyError means that the book is older than the version."""
        return self._by_version[version_id]


def read_price_book(sql: Sql) -> PriceBook:
    """Return the book of all price versions."""
    columns = ("id", "model", "effective_from", *PRICE_COLUMNS, *PROVIDER_COLUMNS)
    rows = sql.rows(f"SELECT {', '.join(columns)} FROM billing_priceversion")
    return PriceBook(_price(dict(zip(columns, row, strict=True))) for row in rows)


def get_price(version_id: int) -> Price:
    """Return one price version."""
    return _price(dict(PriceVersion.objects.filter(pk=version_id).values().get()))


def _price(row: dict[str, object]) -> Price:
    effective_from = row["effective_from"]
    assert isinstance(effective_from, datetime)
    return Price(
        version_id=_integer(row["id"]),
        model=str(row["model"]),
        effective_us=to_us(effective_from),
        rates=Rates(**{c.removesuffix("_nanousd"): _integer(row[c]) for c in PRICE_COLUMNS}),
        provider_rates=Rates(
            **{c.removeprefix("provider_").removesuffix("_nanousd"): _integer(row[c]) for c in PROVIDER_COLUMNS}
        ),
    )


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value


def publish_price(
    *,
    model: str,
    rates: dict[str, int],
    author: str,
    effective_from: datetime | None = None,
    reason: str = "",
) -> PriceVersion:
    """Add a price version; past versions and past usage stay as they are.

    `rates` maps columns of `PriceVersion` (`input_nanousd`, ..., `provider_...`) to nano-USD. `input_nanousd` and
    `output_nanousd` are required; other classes default to the price of what they are a kind of (cache reads and
    writes and audio input to input, reasoning and audio output to output), so that no class is free by omission.
    Raises PriceInvalid for an unknown column, a negative or absurd amount, or a second version of one moment.
    """
    unknown = sorted(set(rates) - set(PRICE_COLUMNS) - set(PROVIDER_COLUMNS))
    if unknown:
        raise PriceInvalid(f"Unknown price columns: {', '.join(unknown)}.")
    for column in ("input_nanousd", "output_nanousd"):
        if column not in rates:
            raise PriceInvalid(f"A price needs {column}; give 0 for a free model.", param=column)
    for column, value in rates.items():
        if not 0 <= value <= MAX_RATE_NANOUSD:
            raise PriceInvalid("A price lies between 0 and 10,000 USD per million tokens.", param=column)
    now = datetime.now(UTC)
    moment = effective_from or now
    if PriceVersion.objects.filter(model=model, effective_from=moment).exists():
        raise PriceInvalid(
            f"'{model}' already has a price from {moment:%Y-%m-%d %H:%M:%S} UTC on; versions are never changed, "
            "publish one with a later moment.",
            param="effective_from",
        )
    return PriceVersion.objects.create(
        model=model,
        effective_from=moment,
        author=author,
        reason=reason,
        created_at=now,
        **complete_rates(rates),
    )


def complete_rates(rates: dict[str, int]) -> dict[str, int]:
    """Return `rates` with the classes that were left out filled in, for customers and for the provider alike."""
    complete = dict(rates)
    for prefix in ("", "provider_"):
        for token_class in TOKEN_CLASSES:
            of_input = token_class in ("input", "cache_read", "cache_write", "audio_input")
            base = complete.get(f"{prefix}{'input' if of_input else 'output'}_nanousd", 0)
            complete.setdefault(f"{prefix}{token_class}_nanousd", base)
        complete.setdefault(f"{prefix}request_nanousd", 0)
    return complete

"""What providers charge, by the data that the package `genai-prices` carries (nothing is fetched).

It is imported where it is asked, by an explicit command: it costs half a second and 50 MB, and the request path never
needs it. The package ignores a context key that it does not know, and then tells the full price; so only contexts that
the model's own data names are asked for. Anything that our classes cannot express comes back as a note.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from billing.bands import complete_rates
from billing.rates import RateBand, Rates, RateTable

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

# Our class of each of the package's units. A thousand requests are sold at once.
_CLASS_OF_UNIT = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "requests_kcount": "request",
}
_BATCH_CONTEXTS = ({"service_tier": "flex"}, {"processing": "batch"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedPrice:
    """A provider's own price of a model; `notes` are what it charges for beyond our classes."""

    provider: str
    model: str
    table: RateTable
    notes: tuple[str, ...]


def find_sourced_price(
    model: str, *, provider: str | None = None, base_url: str | None = None, at: datetime
) -> SourcedPrice | None:
    """Return the price of a provider's model at a moment; the provider by its name or by where its API is.

    None when provider or model is unknown to the data, or it has no price per token.
    """
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - see the module's first lines

    try:
        found_provider, found = get_snapshot().find_provider_model(model, None, provider, base_url)
    except LookupError:
        return None
    standard, is_by_hour = _standard_price(found, at)
    units = {unit for unit, _ in _units(standard)}
    if not {"input_mtok", "output_mtok"} <= units:
        return None
    table = RateTable(standard=_bands(standard), batch=_batch_bands(found, standard, at))
    notes = [f"{unit} is not part of our classes" for unit in sorted(units - _CLASS_OF_UNIT.keys())]
    if is_by_hour:
        notes.append("the provider has other prices at some hours of the day")
    return SourcedPrice(provider=found_provider.id, model=found.id, table=table, notes=tuple(notes))


def _standard_price(model: "ModelInfo", at: datetime) -> "tuple[ModelPrice, bool]":
    """Return the price in force, and whether others count at some hours (which are left out: they are discounts)."""
    from genai_prices.types import ModelPrice, TimeOfDateConstraint  # noqa: PLC0415

    if isinstance(model.prices, ModelPrice):
        return model.prices, False
    steady = [price for price in model.prices if not isinstance(price.constraint, TimeOfDateConstraint)]
    is_by_hour = len(steady) < len(model.prices)
    for price in reversed(steady):
        if price.constraint is None or price.constraint.active(at):
            return price.prices, is_by_hour
    return model.prices[0].prices, is_by_hour


def _batch_bands(model: "ModelInfo", standard: "ModelPrice", at: datetime) -> tuple[RateBand, ...]:
    """Return what batches cost, or nothing where they cost the same. Of several ways to sell them, the dearest."""
    known = [variant.when for variant in model.price_variants or ()]
    tables = []
    for context in _BATCH_CONTEXTS:
        if context in known:
            overridden = _overridden(model, standard, context, at)
            tables.append(RateTable(standard=_bands(overridden)))
    if not tables:
        return ()
    sizes = sorted({band.above_input_tokens for table in tables for band in table.standard})
    bands = tuple(
        RateBand(above_input_tokens=above, rates=_dearest([table.rates_for(above + 1) for table in tables]))
        for above in sizes
    )
    return () if bands == _bands(standard) else bands


def _overridden(model: "ModelInfo", standard: "ModelPrice", context: dict[str, str], at: datetime) -> "ModelPrice":
    from genai_prices.types import ModelPrice  # noqa: PLC0415

    values = dict(_units(standard))
    for variant in reversed(model.price_variants or ()):
        if variant.when == context and (variant.constraint is None or variant.constraint.active(at)):
            values |= dict(_units(variant.prices))
    return ModelPrice(**values)  # type: ignore[arg-type]


def _dearest(choices: list[Rates]) -> Rates:
    return Rates(**{f.name: max(getattr(rates, f.name) for rates in choices) for f in fields(Rates)})


def _units(price: "ModelPrice") -> Iterator[tuple[str, object]]:
    for name, value in vars(price).items():
        if value is not None and not name.startswith("_"):
            yield name, value


def _bands(price: "ModelPrice") -> tuple[RateBand, ...]:
    from genai_prices.types import TieredPrices  # noqa: PLC0415

    tiered = [value for _, value in _units(price) if isinstance(value, TieredPrices)]
    sizes = sorted({0, *(tier.start for value in tiered for tier in value.tiers)})
    return tuple(RateBand(above_input_tokens=above, rates=_rates_above(price, above)) for above in sizes)


def _rates_above(price: "ModelPrice", above: int) -> Rates:
    """Return the rates of a call with more than `above` input tokens. A tier counts for all tokens of the call."""
    columns = {}
    for unit, value in _units(price):
        name = _CLASS_OF_UNIT.get(unit)
        if name is not None:
            columns[f"{name}_nanousd"] = _nanousd(value, above) // (1_000 if name == "request" else 1)
    complete = complete_rates(columns)
    return Rates(**{f.name: complete[f"{f.name}_nanousd"] for f in fields(Rates)})


def _nanousd(value: object, above: int) -> int:
    from genai_prices.types import TieredPrices  # noqa: PLC0415

    usd = value
    if isinstance(value, TieredPrices):
        reached = [tier.price for tier in value.tiers if above >= tier.start]
        usd = reached[-1] if reached else value.base
    assert isinstance(usd, Decimal)
    return int((usd * 10**9).to_integral_value(ROUND_HALF_EVEN))

"""Rates of one price version beside its columns: long inputs and batches, given, stored and read.

Stored in the version's own row as a list of objects: `processing`, `above_input_tokens`, and `rates` and
`provider_rates` with nano-USD per million tokens of every class (per call for `request`). Sorted, standard first; the
standard band above 0 is the row's columns and is not in the list. Bands of batches begin above 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from billing.errors import PriceInvalid
from billing.rates import WHOLE_BASIS_POINTS, Processing, RateBand, Rates, RateTable
from billing.tokens import INPUT_CLASSES, TOKEN_CLASSES
from common.money import divide_half_even

RATE_COLUMNS = tuple(f"{c}_nanousd" for c in TOKEN_CLASSES)
PRICE_COLUMNS = (*RATE_COLUMNS, "request_nanousd")
PROVIDER_COLUMNS = tuple(f"provider_{c}" for c in PRICE_COLUMNS)
ALL_COLUMNS = (*PRICE_COLUMNS, *PROVIDER_COLUMNS)
# Beyond 10,000 USD a million tokens a price is a mistyped unit (per thousand, per token), not a price.
MAX_RATE_NANOUSD = 10_000 * 10**9
_MOST_BANDS = 20
_MOST_INPUT_TOKENS = 1_000_000_000
_RATE_NAMES = tuple(field.name for field in fields(Rates))

StoredBands = list[dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBand:
    """Rates for calls with more than so many input tokens, or for batches; columns as in `PriceVersion`.

    Columns that are left out follow the same rule as in the version itself, except that a band without any provider
    column has the provider rates of the version, and one without a price per call has the version's.
    """

    above_input_tokens: int
    processing: Processing = Processing.STANDARD
    rates: Mapping[str, int] = field(default_factory=dict)


def complete_rates(rates: Mapping[str, int]) -> dict[str, int]:
    """Return `rates` with the classes that were left out filled in, for customers and for the provider alike.

    A class that is left out costs what it is a kind of: cache, audio and image input what input costs, reasoning,
    audio and image output what output costs. No class is free by omission.
    """
    complete = dict(rates)
    for prefix in ("", "provider_"):
        for token_class in TOKEN_CLASSES:
            base = "input" if token_class in INPUT_CLASSES else "output"
            complete.setdefault(f"{prefix}{token_class}_nanousd", complete.get(f"{prefix}{base}_nanousd", 0))
        complete.setdefault(f"{prefix}request_nanousd", 0)
    return complete


def check_columns(rates: Mapping[str, int], *, where: str = "") -> None:
    """Raise PriceInvalid for an unknown column, a missing price of input or output, or an absurd amount."""
    unknown = sorted(set(rates) - set(ALL_COLUMNS))
    if unknown:
        raise PriceInvalid(f"Unknown price columns: {', '.join(unknown)}{where}.")
    for column in ("input_nanousd", "output_nanousd"):
        if column not in rates:
            raise PriceInvalid(f"A price needs {column}{where}; give 0 for a free model.", param=column)
    for column, value in rates.items():
        if not 0 <= value <= MAX_RATE_NANOUSD:
            raise PriceInvalid(f"A price lies between 0 and 10,000 USD per million tokens{where}.", param=column)


def store_bands(base: Mapping[str, int], bands: Sequence[PriceBand]) -> StoredBands:
    """Return what the column holds for `bands`, each complete; `base` are the version's own complete columns.

    Raises PriceInvalid for a band that is given twice, begins where it cannot, or has a price that cannot be meant.
    """
    if len(bands) > _MOST_BANDS:
        raise PriceInvalid(f"A price has at most {_MOST_BANDS} bands.", param="bands")
    seen: set[tuple[Processing, int]] = set()
    for band in bands:
        place = (band.processing, band.above_input_tokens)
        where = f" (the {band.processing} band above {band.above_input_tokens} input tokens)"
        if place in seen:
            raise PriceInvalid(f"A band is given twice{where}.", param="bands")
        seen.add(place)
        first = 0 if band.processing is Processing.BATCH else 1
        if not first <= band.above_input_tokens <= _MOST_INPUT_TOKENS:
            raise PriceInvalid(
                f"A band begins above {first} to {_MOST_INPUT_TOKENS} input tokens{where}.", param="bands"
            )
        check_columns(band.rates, where=where)
    has_batch = any(band.processing is Processing.BATCH for band in bands)
    if has_batch and (Processing.BATCH, 0) not in seen:
        raise PriceInvalid("Rates of batches need a band above 0 input tokens.", param="bands")
    # Standard before batch, so that equal prices are stored as equal texts.
    ordered = sorted(bands, key=lambda b: (b.processing is Processing.BATCH, b.above_input_tokens))
    return [_stored(base, band) for band in ordered]


def _stored(base: Mapping[str, int], band: PriceBand) -> dict[str, object]:
    given = dict(band.rates)
    given.setdefault("request_nanousd", base["request_nanousd"])
    if not any(column in given for column in PROVIDER_COLUMNS):
        given |= {column: base[column] for column in PROVIDER_COLUMNS}
    complete = complete_rates(given)
    return {
        "processing": band.processing.value,
        "above_input_tokens": band.above_input_tokens,
        "rates": {name: complete[f"{name}_nanousd"] for name in _RATE_NAMES},
        "provider_rates": {name: complete[f"provider_{name}_nanousd"] for name in _RATE_NAMES},
    }


def restore_bands(stored: Iterable[Mapping[str, object]]) -> list[PriceBand]:
    """Return the bands that a version's row holds, with every column."""
    return [
        PriceBand(
            above_input_tokens=_integer(band["above_input_tokens"]),
            processing=Processing(str(band["processing"])),
            rates={
                f"{prefix}{name}_nanousd": value
                for prefix, key in (("", "rates"), ("provider_", "provider_rates"))
                for name, value in _read_rates(band[key]).items()
            },
        )
        for band in stored
    ]


def make_table(base: Rates, stored: Iterable[Mapping[str, object]], key: str) -> RateTable:
    """Return the table of a version's rates; `key` is "rates" or "provider_rates"."""
    standard = [RateBand(above_input_tokens=0, rates=base)]
    batch: list[RateBand] = []
    for band in stored:
        rates = RateBand(above_input_tokens=_integer(band["above_input_tokens"]), rates=Rates(**_read_rates(band[key])))
        (batch if band["processing"] == Processing.BATCH.value else standard).append(rates)
    return RateTable(standard=tuple(standard), batch=tuple(batch))


def columns_of(table: RateTable, provider_table: RateTable) -> tuple[dict[str, int], list[PriceBand]]:
    """Return the columns and bands that publish a price with these two tables.

    Where one of them has a band that the other has not, the other's rates of that size stand in it.
    """
    bands = []
    for processing in Processing:
        sides = [t.standard for t in (table, provider_table)]
        if processing is Processing.BATCH:
            if not table.batch and not provider_table.batch:
                break
            # A side without a batch price has its usual tiers in batches too.
            sides = [t.batch or t.standard for t in (table, provider_table)]
        sizes = sorted({band.above_input_tokens for side in sides for band in side})
        for above in sizes:
            found = _columns_at(table, provider_table, above, processing)
            bands.append(PriceBand(above_input_tokens=above, processing=processing, rates=found))
    first, *others = bands
    return dict(first.rates), others


def _columns_at(table: RateTable, provider_table: RateTable, above: int, processing: Processing) -> dict[str, int]:
    return {
        f"{prefix}{name}_nanousd": getattr(rates, name)
        for prefix, rates in (
            ("", table.rates_for(above + 1, processing)),
            ("provider_", provider_table.rates_for(above + 1, processing)),
        )
        for name in _RATE_NAMES
    }


def add_batch_discount(
    base: Mapping[str, int], bands: Sequence[PriceBand], *, discount: int, provider_discount: int
) -> list[PriceBand]:
    """Return `bands` with batch bands that cost `discount` (hundredths of a percent) less, in each size of input.

    `base` are the version's complete columns. The price per call is not discounted. Raises PriceInvalid for a discount
    outside 0 to 100 %.
    """
    for param, value in (("batch_discount", discount), ("provider_batch_discount", provider_discount)):
        if not 0 <= value <= WHOLE_BASIS_POINTS:
            raise PriceInvalid("A discount lies between 0 and 100 %.", param=param)
    standard = [band for band in bands if band.processing is Processing.STANDARD]
    if not discount and not provider_discount:
        return standard
    # As they will be stored: what a band leaves out is filled in before it is discounted.
    sizes = [PriceBand(above_input_tokens=0, rates=dict(base)), *restore_bands(store_bands(base, standard))]
    batch = [
        PriceBand(
            above_input_tokens=band.above_input_tokens,
            processing=Processing.BATCH,
            rates={c: _discounted(c, v, discount, provider_discount) for c, v in band.rates.items()},
        )
        for band in sizes
    ]
    return [*standard, *batch]


def _discounted(column: str, value: int, discount: int, provider_discount: int) -> int:
    if column.endswith("request_nanousd"):
        return value
    off = provider_discount if column.startswith("provider_") else discount
    return divide_half_even(value * (WHOLE_BASIS_POINTS - off), WHOLE_BASIS_POINTS)


def _read_rates(stored: object) -> dict[str, int]:
    assert isinstance(stored, Mapping)
    return {name: _integer(stored[name]) for name in _RATE_NAMES}


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value

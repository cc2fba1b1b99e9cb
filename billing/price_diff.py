"""What differs between two prices, rate by rate."""

from collections.abc import Iterator
from dataclasses import dataclass

from billing.pricing import Price
from billing.rates import Processing, RateTable
from billing.tokens import INPUT_CLASSES, TOKEN_CLASSES

REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePlace:
    """Where a rate stands in a price: whose, for which calls, and of what (a token class, or `request`)."""

    is_provider: bool
    processing: Processing
    above_input_tokens: int
    rate: str

    @property
    def name(self) -> str:
        """Return the name that declaration files use, with the calls that it is for."""
        kind = "batch" if self.processing is Processing.BATCH else ""
        above = f"above {self.above_input_tokens}" if self.above_input_tokens else ""
        calls = ", ".join(part for part in (kind, above) if part)
        shown = f" ({calls})" if calls else ""
        prefix = "provider_" if self.is_provider else ""
        if self.rate == REQUEST:
            return f"{prefix}usd_per_request{shown}"
        return f"{prefix}usd_per_million_tokens{shown}.{self.rate}"

    @property
    def base(self) -> "RatePlace":
        """Return the rate that this one follows where a price leaves it out: that of input or of output."""
        followed = "input" if self.rate in INPUT_CLASSES else "output"
        return RatePlace(
            is_provider=self.is_provider,
            processing=self.processing,
            above_input_tokens=self.above_input_tokens,
            rate=self.rate if self.rate == REQUEST else followed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChange:
    """A rate that becomes another, in nano-USD; None: there is none at this place on this side."""

    place: RatePlace
    old_nanousd: int | None
    new_nanousd: int | None

    @property
    def name(self) -> str:
        """Return the name of the place."""
        return self.place.name


def diff_prices(old: Price | None, new: Price) -> list[RateChange]:
    """Return what differs, without what merely goes along with input or output.

    Of a first price: what input and output cost, and cost us for short inputs.
    """
    wanted = dict(_rates(new))
    if old is None:
        return [
            RateChange(place=place, old_nanousd=None, new_nanousd=value)
            for place, value in wanted.items()
            if place.rate in ("input", "output") and (not place.is_provider or (value and _is_plain(place)))
        ]
    known = dict(_rates(old))

    def sides(place: RatePlace) -> tuple[int | None, int | None]:
        return known.get(place), wanted.get(place)

    changes = []
    for place in dict.fromkeys((*wanted, *known)):
        before, after = sides(place)
        goes_along = place.base != place and sides(place.base) == (before, after)
        # A price per call of nothing, in a band that comes or goes, is no change.
        is_nothing = place.rate == REQUEST and not before and not after
        if before != after and not goes_along and not is_nothing:
            changes.append(RateChange(place=place, old_nanousd=before, new_nanousd=after))
    return changes


def _is_plain(place: RatePlace) -> bool:
    return place.processing is Processing.STANDARD and not place.above_input_tokens


def _rates(price: Price) -> Iterator[tuple[RatePlace, int]]:
    for is_provider, table in ((False, price.table), (True, price.provider_table)):
        yield from _rates_of(table, is_provider=is_provider)


def _rates_of(table: RateTable, *, is_provider: bool) -> Iterator[tuple[RatePlace, int]]:
    for processing, bands in ((Processing.STANDARD, table.standard), (Processing.BATCH, table.batch)):
        for band in bands:
            for rate in (*TOKEN_CLASSES, REQUEST):
                place = RatePlace(
                    is_provider=is_provider,
                    processing=processing,
                    above_input_tokens=band.above_input_tokens,
                    rate=rate,
                )
                yield place, getattr(band.rates, rate)

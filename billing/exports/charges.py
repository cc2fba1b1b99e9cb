"""A call's charge in parts: one a token class at its unit price, and what the ledger moved divided among them.

The parts of one call add up to what was charged, to the nano-dollar.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from billing.pricing import Rates
from billing.tokens import TOKEN_CLASSES, TokenCounts
from common.money import divide_half_even

# What prices and tokens are multiplied to: nano-USD per million tokens times tokens, 1e-15 USD.
MILLIONTHS_PER_NANOUSD = 1_000_000
REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargePart:
    """A quantity at a unit price."""

    # A token class, or REQUEST for what is priced by the call.
    meter: str
    quantity: int
    # Exact, in 1e-15 USD.
    unit_price: int
    # The share of what was charged, in nano-USD; all parts together are what was charged.
    charged_nanousd: int

    @property
    def list_cost(self) -> int:
        """Return quantity times unit price, exact, in 1e-15 USD."""
        return self.quantity * self.unit_price


def split_charge(
    *, tokens: TokenCounts, rates: Rates, cost_nanousd: int, charged_nanousd: int
) -> tuple[ChargePart, ...]:
    """Return the parts of a call; none for one that cost nothing and produced nothing.

    A cost that does not follow from the rates (a call priced by more than these) is one part, priced by the call:
    a unit price that leads to another amount than the ledger's would be wrong.
    """
    metered = [(name, getattr(tokens, name), getattr(rates, name)) for name in TOKEN_CLASSES if getattr(tokens, name)]
    millionths = sum(quantity * price for _, quantity, price in metered)
    if divide_half_even(millionths, MILLIONTHS_PER_NANOUSD) + rates.request == cost_nanousd and metered:
        if rates.request:
            metered.append((REQUEST, 1, rates.request * MILLIONTHS_PER_NANOUSD))
    elif cost_nanousd:
        metered = [(REQUEST, 1, cost_nanousd * MILLIONTHS_PER_NANOUSD)]
    else:
        return ()
    shares = divide_amount(charged_nanousd, [quantity * price for _, quantity, price in metered])
    return tuple(
        ChargePart(meter=meter, quantity=quantity, unit_price=price, charged_nanousd=share)
        for (meter, quantity, price), share in zip(metered, shares, strict=True)
    )


def divide_amount(amount: int, weights: Sequence[int]) -> list[int]:
    """Return integers in proportion to `weights`, each within one of its exact share, that add up to `amount`."""
    total = sum(weights)
    if total == 0:
        return [amount, *[0] * (len(weights) - 1)]
    shares, running, given = [], 0, 0
    for weight in weights:
        # What all up to here should have, less what they got: errors never add up.
        running += weight
        share = divide_half_even(amount * running, total) - given
        shares.append(share)
        given += share
    return shares


def format_exact_usd(millionths: int) -> str:
    """Return 1e-15 USD as a plain decimal, exact, with no more digits than it needs."""
    whole, fraction = divmod(millionths, 10**15)
    return f"{whole}.{fraction:015d}".rstrip("0").rstrip(".")

"""What an answer costs that another call had fetched: a part of what the call would have cost at its provider.

The part is a whole percentage, written into the usage record, so that every charge can be recomputed from rows that
never change. The full cost is rounded as ever, then its part, both half to even.
"""

from billing.rates import Processing, RateTable
from billing.tokens import TokenCounts
from common.money import divide_half_even


def cost_of_reuse(table: RateTable, tokens: TokenCounts, processing: Processing, *, percent: int) -> int:
    """Return the cost in nano-USD of a reused answer of so many tokens; `percent` lies between 0 (free) and 100."""
    return divide_half_even(table.cost(tokens, processing) * percent, 100) if percent else 0

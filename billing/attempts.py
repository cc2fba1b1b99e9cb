"""Calls that asked the model several times: what each attempt used, and what all of them cost.

The provider is asked anew each time, so each attempt is a call to it: priced by the size of its own input, with the
price of a call, and rounded, each for itself. A usage record keeps the counts of every attempt as text, because its
token columns hold the sums, from which neither the band nor the rounding of an attempt can be told.
"""

from collections.abc import Sequence

import orjson

from billing.rates import Processing, RateTable
from billing.tokens import NO_TOKENS, TokenCounts


def pack_attempts(attempts: Sequence[TokenCounts]) -> str:
    """Return what a usage record keeps: a JSON list of lists, each in the order of `TOKEN_CLASSES`."""
    return orjson.dumps([list(tokens) for tokens in attempts]).decode()


def unpack_attempts(text: str) -> tuple[TokenCounts, ...]:
    """Return the attempts of a usage record; none for a call that asked once."""
    return tuple(TokenCounts(*counts) for counts in orjson.loads(text)) if text else ()


def cost_of_use(table: RateTable, tokens: TokenCounts, attempts: Sequence[TokenCounts], processing: Processing) -> int:
    """Return the cost in nano-USD of a call that used `tokens`, in `attempts` where there were several.

    An attempt that produced nothing costs nothing.
    """
    if not attempts:
        return table.cost(tokens, processing)
    return sum(table.cost(attempt, processing) for attempt in attempts if attempt != NO_TOKENS)

"""Calls of known cost at chosen moments, and what exports make of them."""

from datetime import UTC, datetime
from typing import Any

from billing.exports import Order, make_order, make_selection
from billing.exports.tally import Tally
from billing.tokens import TokenCounts
from common.clock import FrozenClock, to_us
from gateway.admission.context import BatchContext
from tests.admitting import make_context, run
from tests.factories import FundedCall

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
ALWAYS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
# At the factories' prices of 1 and 4 USD per million tokens.
TOKENS = TokenCounts(input=3, cache_read=2, output=7)
COST = 3 * 1_000 + 2 * 1_000 + 7 * 4_000


def settle_one(
    call: FundedCall, *, at: datetime, tokens: TokenCounts = TOKENS, cost_nanousd: int = COST, **fields: Any
) -> str:
    """Book one whole call that began at `at`; return its request id."""
    context: BatchContext = make_context(FrozenClock(to_us(at)))
    fresh = call.refreshed()
    question = fresh.admit()
    run(question, context=context)
    command = fresh.settle(question.request_id, cost_nanousd=cost_nanousd, tokens=tokens, started_us=to_us(at))
    run(command._replace(usage=command.usage._replace(**fields)), context=context)
    return question.request_id


def order(
    dataset: str = "usage", format_name: str = "csv", *, start: datetime = START, end: datetime = END, **options: Any
) -> Order:
    """Return an order; `options` as in `make_selection`."""
    selection = make_selection(dataset, start=start, end=end, **options)
    return make_order(selection, format_name=format_name, author="tests")


def content(wanted: Order) -> bytes:
    """Return the whole file of an order, without a record of it."""
    return b"".join(wanted.format.write(wanted.selection, Tally()))


def text(*args: Any, **options: Any) -> str:
    """Return the whole file of `order(...)` as text."""
    return content(order(*args, **options)).decode()

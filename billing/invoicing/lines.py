"""From sums of usage to lines that add up to what the ledger moved, to the nano-dollar.

Tokens times rate, each line rounded half to even, is not yet the sum of the calls, each of which was rounded for
itself: the line of a model's calls has the difference. What calls cost and were not charged is a line of its own. What
other months' invoices have not asked for, or have asked for twice, is a line for each model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from billing.invoicing.document import InvoiceLine, LineKind
from billing.invoicing.sums import NO_CHARGE, Charge, ModelSums, PricedSums, PriceKey, UsageSums
from billing.pricing import PriceBook
from billing.rates import Processing, Rates
from billing.tokens import TOKEN_CLASSES
from common.money import divide_half_even

_MILLION = 1_000_000


def make_lines(
    sums: UsageSums, prices: PriceBook, *, everything: Mapping[str, Charge], elsewhere: Mapping[str, Charge]
) -> tuple[InvoiceLine, ...]:
    """Return the lines of a month in their order.

    `everything` is what all calls up to the end of the invoiced time were charged, by model; `elsewhere` what other
    invoices ask for. The lines of a model add up to the difference of both.
    """
    own: dict[str, Charge] = {}
    lines: list[InvoiceLine] = []
    for found in sums.models:
        priced = [each for each in sums.priced if each.key.model == found.model]
        lines += _lines_of_model(found, priced, prices)
    for found in sums.archived:
        lines += _archived_lines(found)
    for found in (*sums.models, *sums.archived):
        own[found.model] = own.get(found.model, NO_CHARGE).plus(found.calls, found.charged_nanousd)
    lines += _late_lines(everything, own, elsewhere)
    return tuple(replace(line, position=position) for position, line in enumerate(lines, start=1))


def _lines_of_model(sums: ModelSums, priced: Sequence[PricedSums], prices: PriceBook) -> Iterator[InvoiceLine]:
    exact = 0
    for each in priced:
        for line in _priced_lines(each, prices):
            exact += line.amount_nanousd
            yield line
    if sums.reused_calls:
        yield _line(
            LineKind.REUSED,
            sums.model,
            f"{sums.model}: {_count_calls(sums.reused_calls)} with a reused answer, at a part of the price",
            quantity=sums.reused_calls,
            amount_nanousd=sums.reused_nanousd,
        )
    yield _line(
        LineKind.CALLS,
        sums.model,
        f"{sums.model}: rounding of {_count_calls(sums.calls)} to the nano-dollar",
        quantity=sums.calls,
        amount_nanousd=sums.cost_nanousd - sums.reused_nanousd - exact,
    )
    yield from _uncharged_line(sums)


def _priced_lines(sums: PricedSums, prices: PriceBook) -> Iterator[InvoiceLine]:
    key = sums.key
    table = prices.get_applied(key.version_id, key.terms_id or None).table
    rates: Rates = table.rates_for(key.above_input_tokens + 1, key.processing)
    price = {"price_version": key.version_id, "price_terms": key.terms_id or None}
    for token_class, quantity in zip(TOKEN_CLASSES, sums.tokens, strict=True):
        if quantity:
            rate: int = getattr(rates, token_class)
            yield _line(
                LineKind.TOKENS,
                key.model,
                f"{key.model}: {token_class.replace('_', ' ')} tokens{_say_band(key)}",
                token_class=token_class,
                quantity=quantity,
                rate_nanousd=rate,
                amount_nanousd=divide_half_even(quantity * rate, _MILLION),
                **price,
            )
    if rates.request:
        yield _line(
            LineKind.REQUESTS,
            key.model,
            f"{key.model}: requests{_say_band(key)}",
            quantity=sums.requests,
            rate_nanousd=rates.request,
            amount_nanousd=sums.requests * rates.request,
            **price,
        )


def _archived_lines(sums: ModelSums) -> Iterator[InvoiceLine]:
    yield _line(
        LineKind.ARCHIVED,
        sums.model,
        f"{sums.model}: {_count_calls(sums.calls)} that have been archived",
        quantity=sums.calls,
        amount_nanousd=sums.cost_nanousd,
    )
    yield from _uncharged_line(sums)


def _uncharged_line(sums: ModelSums) -> Iterator[InvoiceLine]:
    if sums.charged_nanousd != sums.cost_nanousd:
        yield _line(
            LineKind.UNCHARGED,
            sums.model,
            f"{sums.model}: not charged (test keys, free answers, and what exceeds the amount held for a call)",
            amount_nanousd=sums.charged_nanousd - sums.cost_nanousd,
        )


def _late_lines(
    everything: Mapping[str, Charge], own: Mapping[str, Charge], elsewhere: Mapping[str, Charge]
) -> Iterator[InvoiceLine]:
    for model in sorted({*everything, *own, *elsewhere}):
        total, here, there = (found.get(model, NO_CHARGE) for found in (everything, own, elsewhere))
        calls = total.calls - here.calls - there.calls
        amount = total.amount_nanousd - here.amount_nanousd - there.amount_nanousd
        if calls or amount:
            said = "not invoiced before" if amount >= 0 else "invoiced before, taken off here"
            text = f"{model}: {_count_calls(abs(calls))} of other months, {said}"
            yield _line(LineKind.LATE, model, text, quantity=calls, amount_nanousd=amount)


def charge_of_lines(lines: Iterable[tuple[str, str, int, int]]) -> dict[str, Charge]:
    """Return by model the calls and amounts of lines, given as (model, kind, quantity, amount)."""
    counted = (LineKind.CALLS, LineKind.ARCHIVED, LineKind.LATE)
    found: dict[str, Charge] = {}
    for model, kind, quantity, amount in lines:
        found[model] = found.get(model, NO_CHARGE).plus(quantity if kind in counted else 0, amount)
    return found


def _line(kind: LineKind, model: str, text: str, **columns: object) -> InvoiceLine:
    return InvoiceLine(position=0, kind=kind, model=model, text=text, **columns)  # type: ignore[arg-type]


def _say_band(key: PriceKey) -> str:
    batch = ", batch" if key.processing is Processing.BATCH else ""
    size = f", calls with more than {key.above_input_tokens:,} input tokens" if key.above_input_tokens else ""
    return f"{batch}{size}"


def _count_calls(calls: int) -> str:
    return f"{calls:,} call{'s' * (calls != 1)}"

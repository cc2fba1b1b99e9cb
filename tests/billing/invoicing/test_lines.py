"""Lines of invoices add up to usage and ledger, to the nano-dollar, whatever the calls were."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.bands import PriceBand
from billing.invoicing.document import LineKind
from billing.models import CacheState
from billing.pricing import publish_price, read_price_book
from billing.rates import Processing
from billing.retention import archive_usage
from billing.terms import publish_terms
from billing.tokens import TOKEN_CLASSES, TokenCounts
from common.clock import EPOCH, to_us
from common.money import parse_usd
from common.sql import Sql
from tests.factories import FundedCall, funded_call, known_call, make_model, make_price
from tests.invoicing import MILLION, NOVEMBER, OCTOBER, Buyer, amounts, assert_books_are_clean, charged, document

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
USD = 10**9


def make_odd_model() -> str:
    """Make a model whose price has bands, batches, a price per call, and rates that leave fractions."""
    name = make_model(with_price=False).name
    publish_price(
        model=name,
        rates={
            **{f"{token_class}_nanousd": 333_333 + place for place, token_class in enumerate(TOKEN_CLASSES)},
            "request_nanousd": 7,
        },
        bands=[
            PriceBand(above_input_tokens=100, rates={"input_nanousd": 777_777, "output_nanousd": 999_999}),
            PriceBand(above_input_tokens=200, rates={"input_nanousd": 1_234_567, "output_nanousd": 1}),
            PriceBand(
                above_input_tokens=0, processing=Processing.BATCH, rates={"input_nanousd": 3, "output_nanousd": 5}
            ),
        ],
        author="tests",
        effective_from=EPOCH,
    )
    return name


def in_force(call: FundedCall) -> FundedCall:
    """Return the call with the price that its customer pays now."""
    principal = call.refreshed().principal
    book = read_price_book(Sql(connection))
    price = book.find_price(call.model, to_us(NOVEMBER), customer_id=principal.customer_id, plan_id=principal.plan_id)
    assert price is not None
    return replace(call, price=price)


def test_a_month_of_calls_becomes_lines_by_model_and_token_class() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    buyer.use(NOVEMBER - timedelta(microseconds=1))
    buyer.use(NOVEMBER)
    shown = document(buyer.issue())
    assert [(line.kind, line.token_class, line.quantity, line.amount_nanousd) for line in shown.lines] == [
        (LineKind.TOKENS, "input", 2_000_000, parse_usd("2")),
        (LineKind.TOKENS, "output", 2_000_000, parse_usd("8")),
        (LineKind.CALLS, "", 2, 0),
    ]
    assert (shown.usage_nanousd, shown.net_nanousd, shown.due_cents) == (parse_usd("10"), parse_usd("10"), 10_00)
    assert_books_are_clean()


def test_prices_and_terms_that_change_within_a_month_have_lines_of_their_own() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    version = make_price(buyer.call.model, input_usd="2", output_usd="8", effective_from=OCTOBER + DAY)
    newer = known_call(token=buyer.call.token, model=buyer.call.model)
    buyer.use(OCTOBER + 2 * DAY, call=newer)
    terms = publish_terms(
        customer_id=buyer.id, markup_basis_points=-5_000, author="t", effective_from=OCTOBER + 3 * DAY
    )
    buyer.use(OCTOBER + 4 * DAY, call=in_force(newer))
    lines = document(buyer.close()).lines
    assert [
        (line.rate_nanousd, line.price_version, line.price_terms) for line in lines if line.token_class == "input"
    ] == [
        (1 * USD, buyer.call.price.version_id, None),
        (2 * USD, version.pk, None),
        (1 * USD, version.pk, terms.pk),
    ]
    assert sum(line.amount_nanousd for line in lines) == charged(buyer) == parse_usd("20")


def test_reused_answers_stand_in_a_line_of_their_own() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    for percent, cost in ((25, parse_usd("1.25")), (0, 0)):
        buyer.use(
            OCTOBER,
            held_nanousd=cost,
            cache=CacheState.HIT.value,
            reused_percent=percent,
            reused_bytes=9,
            cost_nanousd=cost,
        )
    invoice = buyer.issue()
    assert amounts(invoice, LineKind.REUSED) == [parse_usd("1.25")]
    assert amounts(invoice, LineKind.CALLS) == [0]
    assert invoice.due_cents == 6_25
    assert_books_are_clean()


def test_what_was_not_charged_stands_in_a_line() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER, held_nanousd=parse_usd("3"), flags="cost_exceeds_hold")
    buyer.use(OCTOBER, held_nanousd=0, flags="test_key")
    buyer.use(OCTOBER, TokenCounts(), source="none", status="failed")
    invoice = buyer.issue()
    assert amounts(invoice, LineKind.UNCHARGED) == [-parse_usd("7")]
    assert [line.quantity for line in document(invoice).lines if line.kind is LineKind.CALLS] == [3]
    assert invoice.due_cents == 3_00
    assert_books_are_clean()


small = st.integers(min_value=0, max_value=90)
counts = st.builds(TokenCounts, **dict.fromkeys(TOKEN_CLASSES, small))
calls = st.lists(
    st.tuples(
        st.lists(counts.filter(any), min_size=1, max_size=3),
        st.sampled_from(Processing),
        # What was held, in thousandths of the cost.
        st.sampled_from([1_000, 1_000, 1_000, 600, 0]),
        st.integers(min_value=0, max_value=1),
    ),
    min_size=1,
    max_size=6,
)


@given(calls)
@hypothesis_settings(max_examples=15)
def test_lines_add_up_whatever_the_calls_were(
    made: list[tuple[list[TokenCounts], Processing, int, int]],
) -> None:
    buyer = Buyer(call=funded_call(credit_nanousd=0, model=make_odd_model()))
    plain = known_call(token=buyer.call.token, model=make_model().name)
    publish_terms(customer_id=buyer.id, markup_basis_points=1_111, author="t", effective_from=OCTOBER)
    models = (in_force(buyer.call), plain)
    for attempts, processing, held, which in made:
        call = models[which]
        several = tuple(attempts) if len(attempts) > 1 else ()
        most = sum(call.price.table.cost(each, processing) for each in attempts) * held // 1_000
        flags = "" if held == 1_000 else "cost_exceeds_hold"
        buyer.use(
            OCTOBER, attempts[0], attempts=several, processing=processing, call=call, held_nanousd=most, flags=flags
        )
    total = charged(buyer)
    if total == 0:
        return
    invoice = buyer.close()
    lines = document(invoice).lines
    assert sum(line.amount_nanousd for line in lines) == invoice.usage_nanousd == total
    # Half a nano-dollar at most for each call, attempt and line: so every line was reckoned with its own rates.
    roundings = len(lines) + sum(len(attempts) for attempts, *_ in made)
    assert all(abs(amount) * 2 <= roundings for amount in amounts(invoice, LineKind.CALLS))
    issued = buyer.issue()
    assert issued.net_nanousd == total


def test_archived_calls_are_invoiced_like_any_others(tmp_path: Path) -> None:
    buyer = Buyer()
    buyer.use(OCTOBER + DAY)
    buyer.use(OCTOBER + 20 * DAY, MILLION)
    assert list(archive_usage(OCTOBER + 2 * DAY, tmp_path))
    invoice = buyer.issue()
    assert amounts(invoice, LineKind.ARCHIVED) == [parse_usd("5")]
    assert invoice.due_cents == 10_00
    assert list(archive_usage(NOVEMBER, tmp_path))
    # What was invoiced from records and is archived since, is not late.
    buyer.use(NOVEMBER + DAY)
    november = buyer.issue("2026-11")
    assert amounts(november, LineKind.LATE) == []
    assert november.due_cents == 5_00
    assert_books_are_clean()

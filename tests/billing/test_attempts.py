"""A call that asked the model several times costs what its attempts cost, each priced by its own size."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client

from billing.attempts import cost_of_use, pack_attempts, unpack_attempts
from billing.bands import PriceBand
from billing.explaining import explain_cost
from billing.models import UsageRecord
from billing.pricing import draft_price, publish_price
from billing.rates import Processing
from billing.reconciliation.usage_checks import check_costs
from billing.rerating import rerate
from billing.tokens import NO_TOKENS, TokenCounts, add_tokens
from common.ids import make_id
from common.money import parse_usd
from common.sql import Sql
from tests.factories import funded_call

USD = parse_usd("1")
RATES = {"input_nanousd": 1 * USD, "output_nanousd": 4 * USD, "request_nanousd": 7}
LONG = PriceBand(above_input_tokens=100, rates={"input_nanousd": 3 * USD, "output_nanousd": 9 * USD})
FIRST, SECOND = TokenCounts(input=90, output=5), TokenCounts(input=101, output=6)
# The first below the long band, the second above it, each with the price of a call.
COST = 90 * 1_000 + 5 * 4_000 + 7 + 101 * 3_000 + 6 * 9_000 + 7


def test_each_attempt_is_priced_by_its_own_band_and_as_a_call() -> None:
    table = draft_price("m", RATES, [LONG]).table
    both = add_tokens([FIRST, SECOND])
    assert cost_of_use(table, both, (FIRST, SECOND), Processing.STANDARD) == COST
    assert cost_of_use(table, both, (), Processing.STANDARD) == table.cost(both) != COST
    assert cost_of_use(table, FIRST, (FIRST, NO_TOKENS), Processing.STANDARD) == table.cost(FIRST)


def test_a_record_keeps_its_attempts_as_text() -> None:
    assert unpack_attempts(pack_attempts((FIRST, SECOND))) == (FIRST, SECOND)
    assert unpack_attempts("") == ()


def record_of(*attempts: TokenCounts, cost_nanousd: int) -> UsageRecord:
    version = publish_price(
        model="m", rates=RATES, bands=[LONG], author="tests", effective_from=datetime(2020, 1, 1, tzinfo=UTC)
    )
    call = funded_call()
    both, now = add_tokens(attempts), datetime.now(UTC)
    return UsageRecord.objects.create(
        request_id=make_id("req"),
        customer_id=call.customer_id,
        api_key_id=call.principal.key_id,
        operation="chat.completions",
        model="m",
        price_version_id=version.pk,
        status="completed",
        source="provider",
        is_stream=False,
        input_tokens=both.input,
        output_tokens=both.output,
        attempts=pack_attempts(attempts),
        cost_nanousd=cost_nanousd,
        charged_nanousd=cost_nanousd,
        flags="asked_again",
        started_at=now,
        settled_at=now,
    )


@pytest.mark.django_db
def test_the_record_explains_and_reprices_itself_attempt_by_attempt(admin_client: Client) -> None:
    record = record_of(FIRST, SECOND, cost_nanousd=COST)
    cost = explain_cost(record)
    assert cost.rounded_nanousd == record.cost_nanousd == COST
    assert [attempt.lines[0].rate_nanousd for attempt in cost.attempts] == [1 * USD, 3 * USD]
    assert "The input of attempt 2 of 101 tokens is above 100" in " ".join(cost.reasons)
    assert check_costs(Sql(connection)).differences == ()
    page = admin_client.get(f"/admin/billing/usagerecord/{record.pk}/change/").content.decode()
    assert "2. Per call" in page
    assert "0.000110007 + 0.000357007" in page
    start, end = record.started_at, datetime(2100, 1, 1, tzinfo=UTC)
    assert rerate(draft_price("m", RATES, [LONG]), start=start, end=end).total.new_cost_nanousd == COST


@pytest.mark.django_db
def test_reconciliation_finds_a_cost_of_the_summed_band() -> None:
    both = add_tokens([FIRST, SECOND])
    record_of(FIRST, SECOND, cost_nanousd=draft_price("m", RATES, [LONG]).table.cost(both))
    found = check_costs(Sql(connection)).differences[0]
    assert (found.what, str(found.expected)) == ("cost_nanousd", str(COST))


@pytest.mark.django_db
def test_reconciliation_finds_attempts_that_do_not_add_up_to_the_record() -> None:
    record = record_of(FIRST, SECOND, cost_nanousd=COST)
    copy = UsageRecord.objects.get(pk=record.pk)
    copy.pk, copy.request_id, copy.output_tokens = None, make_id("req"), copy.output_tokens + 1
    copy.save(force_insert=True)
    (found,) = check_costs(Sql(connection)).differences
    assert found.what == "its tokens"

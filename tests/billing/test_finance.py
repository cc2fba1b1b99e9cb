"""The finance page: exact sums of revenue, cost and margin, and whose money runs out first."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from billing.finance import Result, add_up, read_runways, read_sales
from keys.models import Customer
from tests.exporting import settle_one
from tests.factories import funded_call

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_sales_add_up_by_whatever_they_are_of() -> None:
    call, other = funded_call(), funded_call()
    for days in (1, 2):
        settle_one(call, at=NOW - timedelta(days=days), cost_nanousd=100, provider_cost_nanousd=60)
    settle_one(other, at=NOW, cost_nanousd=50, provider_cost_nanousd=75)
    sales = read_sales(NOW.date() - timedelta(days=3), NOW.date(), now=NOW)
    by_model = {result.name: result for result in add_up(sales, lambda s: s.model)}
    assert (by_model[call.model].revenue_nanousd, by_model[call.model].margin_nanousd) == (200, 80)
    assert [result.margin_text for result in by_model.values()] == ["40.0 %", "-50.0 %"]
    (everything,) = add_up(sales, lambda _: "")
    assert everything == Result(name="", calls=3, revenue_nanousd=250, cost_nanousd=195)


def test_who_runs_out_first_comes_first() -> None:
    rich, poor = funded_call(credit_nanousd=7_000_000), funded_call(credit_nanousd=2_000_000)
    idle = funded_call(credit_nanousd=1_000_000)
    for call in (rich, poor):
        settle_one(call, at=NOW - timedelta(days=1), cost_nanousd=700_000)
    sales = read_sales(NOW.date() - timedelta(days=8), NOW.date(), now=NOW)
    runways = read_runways(sales, today=NOW.date(), within_days=63, limit=10)
    assert [(runway.customer_id, runway.days_left) for runway in runways] == [
        (poor.customer_id, 1_300_000 // 100_000),
        (rich.customer_id, 6_300_000 // 100_000),
    ]
    assert len(read_runways(sales, today=NOW.date(), within_days=62, limit=10)) == 1
    assert idle.customer_id not in {runway.customer_id for runway in runways}


def test_the_page_draws_what_was_sold(admin_client: Client) -> None:
    call = funded_call()
    settle_one(call, at=datetime.now(UTC), cost_nanousd=20_000, provider_cost_nanousd=5_000)
    page = admin_client.get("/admin/billing/usagerecord/finance/")
    chart = json.loads(page.context["by_day"])
    assert [dataset["data"][-1] for dataset in chart["datasets"]] == [2e-05, 5e-06, 1.5e-05]
    text = page.content.decode()
    assert "0.000015" in text
    assert Customer.objects.get(pk=call.customer_id).name in text

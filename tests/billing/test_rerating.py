"""What past calls would have cost under another price: from their own tokens, tiers and terms; nothing is written."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command

from billing.errors import RerateTooLarge
from billing.models import PriceVersion, UsageRecord
from billing.pricing import draft_price, get_price, publish_price
from billing.rerating import rerate
from billing.terms import publish_terms
from common.ids import make_id
from tests.factories import FundedCall, funded_call, make_price

pytestmark = pytest.mark.django_db

USD = 10**9
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DOUBLE = {"input_nanousd": 2 * USD, "output_nanousd": 8 * USD}


def book(call: FundedCall, *, days_ago: int = 1, version: PriceVersion | None = None, **columns: object) -> UsageRecord:
    """Record a call of a million tokens in and none out: 1 USD."""
    moment = NOW - timedelta(days=days_ago)
    return UsageRecord.objects.create(
        **{
            "request_id": make_id("req"),
            "customer_id": call.customer_id,
            "api_key_id": call.principal.key_id,
            "operation": "chat.completions",
            "model": call.model,
            "price_version_id": version.pk if version else call.price.version_id,
            "status": "completed",
            "source": "provider",
            "is_stream": False,
            "input_tokens": 10**6,
            "cost_nanousd": USD,
            "charged_nanousd": USD,
            "started_at": moment,
            "settled_at": moment,
            **columns,
        }
    )


def test_each_call_is_priced_anew_within_the_range_and_the_model() -> None:
    call, other = funded_call(), funded_call()
    book(call)
    book(call, days_ago=3)
    book(call, days_ago=8)
    book(other)
    report = rerate(draft_price(call.model, DOUBLE), start=NOW - timedelta(days=7), end=NOW)
    assert (report.total.calls, report.total.cost_nanousd, report.total.new_cost_nanousd) == (2, 2 * USD, 4 * USD)
    assert [(part.customer_id, part.sums.difference_nanousd) for part in report.customers] == [
        (call.customer_id, 2 * USD)
    ]


def test_the_markup_that_applied_then_applies_again() -> None:
    call = funded_call()
    terms = publish_terms(customer_id=call.customer_id, markup_basis_points=1_000, author="t")
    book(call, price_terms_id=terms.pk, cost_nanousd=1_100_000_000)
    publish_terms(customer_id=call.customer_id, markup_basis_points=9_000, author="t")
    report = rerate(draft_price(call.model, DOUBLE), start=NOW - timedelta(days=7), end=NOW)
    assert report.total.new_cost_nanousd == 2_200_000_000


def test_calls_of_other_lists_and_calls_without_a_product_keep_their_cost() -> None:
    call = funded_call()
    own = publish_price(model=call.model, rates={"input_nanousd": 5, "output_nanousd": 5}, author="t", price_list="own")
    book(call, version=own)
    book(call, source="none", cost_nanousd=0, charged_nanousd=0)
    report = rerate(draft_price(call.model, DOUBLE), start=NOW - timedelta(days=7), end=NOW)
    assert (report.calls_of_other_lists, report.total.calls, report.total.new_cost_nanousd) == (1, 1, 0)
    of_list = rerate(draft_price(call.model, DOUBLE, price_list="own"), start=NOW - timedelta(days=7), end=NOW)
    assert (of_list.total.calls, of_list.total.new_cost_nanousd) == (1, 2 * USD)


def test_the_price_in_force_changes_nothing_and_a_bound_is_kept() -> None:
    call = funded_call()
    book(call)
    book(call)
    price = get_price(call.price.version_id)
    report = rerate(price, start=NOW - timedelta(days=7), end=NOW)
    assert report.total.difference_nanousd == 0
    with pytest.raises(RerateTooLarge):
        rerate(price, start=NOW - timedelta(days=7), end=NOW, most_calls=1)


def test_the_command_tells_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    call = funded_call()
    moment = datetime.now(UTC) - timedelta(days=1)
    book(call, started_at=moment, settled_at=moment)
    before = PriceVersion.objects.count(), list(UsageRecord.objects.values())
    call_command("prices", "rerate", call.model, "--change-percent", "10")
    assert "1.00 -> 1.10 USD (+0.10)" in capsys.readouterr().out
    call_command("prices", "rerate", call.model, "--input", "0.5", "--output", "1")
    assert "1.00 -> 0.50 USD (-0.50)" in capsys.readouterr().out
    planned = make_price(call.model, input_usd="3", effective_from=datetime.now(UTC) + timedelta(days=9))
    call_command("prices", "rerate", call.model, "--version", str(planned.pk))
    assert "1.00 -> 3.00 USD (+2.00)" in capsys.readouterr().out
    assert (PriceVersion.objects.count(), list(UsageRecord.objects.values())) == (before[0] + 1, before[1])


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--input", "1"],
        ["--input", "x", "--output", "1"],
        ["--version", "999999"],
        ["--change-percent", "10", "--input", "1"],
        ["--change-percent", "1e3"],
        ["--rate", "input"],
        ["--days", "0", "--change-percent", "1"],
    ],
)
def test_the_command_says_what_is_wrong(options: list[str]) -> None:
    call = funded_call()
    with pytest.raises(CommandError):
        call_command("prices", "rerate", call.model, *options)

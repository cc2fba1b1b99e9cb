"""Sums by the day say what the records say, at every moment and whatever has been archived."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.finance_models import UsageDay
from billing.models import UsageRecord
from billing.reconciliation.running import reconcile
from billing.spend import SpendGroup, SpendInterval, SpendQuestion, SpendRow, read_spend
from billing.statistics import read_day
from billing.usage_days import read_watermark, roll_up_usage
from tests.exporting import settle_one
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db

DAY = datetime(2026, 5, 4, tzinfo=UTC)
LATER = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def calls() -> tuple[FundedCall, FundedCall]:
    """Settle calls of two customers on two days; return one call of each customer."""
    first, second = funded_call(), funded_call()
    for call, hours in ((first, 1), (first, 23), (first, 25), (second, 5)):
        settle_one(call, at=DAY + timedelta(hours=hours))
    settle_one(second, at=DAY + timedelta(hours=6), status="failed")
    return first, second


def spend(**options: Any) -> list[SpendRow]:
    defaults = {"start": DAY, "end": DAY + timedelta(days=2), "customer_id": None, "group": SpendGroup.CUSTOMER}
    return read_spend(SpendQuestion(**{**defaults, **options}))


def differences() -> list[str]:
    return [str(d) for check in reconcile().checks if check.name == "usage days" for d in check.differences]


def test_spend_is_the_same_before_and_after_and_with_calls_beyond_the_watermark(
    calls: tuple[FundedCall, FundedCall],
) -> None:
    questions: list[dict[str, Any]] = [
        *({"group": group} for group in SpendGroup),
        *({"interval": interval} for interval in SpendInterval),
        {"customer_id": calls[0].customer_id},
        {"model": calls[1].model, "group": SpendGroup.MODEL},
    ]
    before = [spend(**question) for question in questions]
    assert roll_up_usage(now=LATER) == 5
    assert [spend(**question) for question in questions] == before
    settle_one(calls[0], at=DAY + timedelta(hours=2))
    fresh = [spend(**question) for question in questions]
    assert fresh != before
    assert roll_up_usage(now=LATER) == 1
    assert [spend(**question) for question in questions] == fresh
    assert differences() == []


def test_pages_of_millions_read_sums_and_not_records(calls: tuple[FundedCall, FundedCall]) -> None:
    roll_up_usage(now=LATER)
    UsageDay.objects.filter(customer_id=calls[0].customer_id, day=DAY).update(calls=77)
    assert 77 in [row.calls for row in spend()]
    assert read_day(DAY.date(), now=LATER).calls == 77 + 2
    assert read_day(DAY.date(), now=LATER).faults == 1
    (difference,) = differences()
    assert "calls of all days is 78, expected 3" in difference


def test_a_range_of_parts_of_days_reads_records(calls: tuple[FundedCall, FundedCall]) -> None:
    roll_up_usage(now=LATER)
    rows = spend(start=DAY + timedelta(hours=2), interval=SpendInterval.NONE, group=SpendGroup.NONE)
    assert [row.calls for row in rows] == [4]


def test_what_was_settled_just_now_waits_for_whoever_may_still_write_below_it(
    calls: tuple[FundedCall, FundedCall],
) -> None:
    last = UsageRecord.objects.latest("pk")
    middle = UsageRecord.objects.order_by("pk")[2]
    assert roll_up_usage(now=last.settled_at + timedelta(minutes=4)) < 5
    mark = read_watermark()
    assert mark is not None
    assert mark < middle.pk or last.settled_at - middle.settled_at >= timedelta(minutes=1)
    assert roll_up_usage(now=LATER) > 0
    assert roll_up_usage(now=LATER) == 0
    assert read_watermark() == last.pk


def test_small_steps_add_up_to_the_same() -> None:
    call = funded_call()
    for hour in range(5):
        settle_one(call, at=DAY + timedelta(hours=hour))
    assert roll_up_usage(now=LATER, step=2) == 5
    assert UsageDay.objects.get().calls == 5
    assert differences() == []

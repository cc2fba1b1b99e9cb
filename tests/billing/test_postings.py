"""Provider cost and suspense come into the ledger by closed hours, once."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.accounts import open_platform_account, sum_transfers
from billing.models import AccountKind
from billing.postings import post_hours, release_suspense
from tests.billing.test_money_admin import make_usage

pytestmark = pytest.mark.django_db

HOUR = datetime(2026, 5, 4, 10, tzinfo=UTC)


def inside(kind: AccountKind) -> int:
    return sum_transfers(open_platform_account(kind))


def test_each_closed_hour_is_posted_once() -> None:
    for minutes, cost in ((5, 30), (59, 12), (61, 100)):
        make_usage(provider_cost_nanousd=cost, settled_at=HOUR + timedelta(minutes=minutes))
    assert post_hours(now=HOUR + timedelta(minutes=64)).provider_cost_nanousd == 0
    assert post_hours(now=HOUR + timedelta(minutes=66)).provider_cost_nanousd == 42
    assert post_hours(now=HOUR + timedelta(minutes=66)).provider_cost_nanousd == 0
    assert post_hours(now=HOUR + timedelta(days=9)).provider_cost_nanousd == 100
    assert (inside(AccountKind.PROVIDER_COST), inside(AccountKind.PROVIDER_PAYABLE)) == (-142, 142)


def test_estimated_and_flagged_calls_wait_in_suspense_until_released() -> None:
    plain = make_usage(settled_at=HOUR)
    make_usage(settled_at=HOUR, source="estimated")
    make_usage(settled_at=HOUR, flags="usage_total_mismatch")
    post_hours(now=HOUR + timedelta(hours=2))
    assert inside(AccountKind.SUSPENSE) == 2 * plain.charged_nanousd
    for _ in range(2):
        release_suspense(amount_nanousd=plain.charged_nanousd, reason="looked at", author="ann", reference="release-1")
    assert inside(AccountKind.SUSPENSE) == plain.charged_nanousd

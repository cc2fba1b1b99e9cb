"""Provider cost and suspense come into the ledger by closed hours, once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from billing.accounts import open_platform_account, sum_transfers
from billing.errors import AmountInvalid, ApprovalRefused
from billing.funds import read_funds
from billing.models import AccountKind
from billing.money import Order, approve_movement, order_movement
from billing.money_models import Movement, MovementKind, MovementStatus
from billing.postings import post_hours
from common.money import format_usd
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


def set_aside() -> tuple[int, int]:
    """Post an hour with two calls to be looked at; return what one of them was charged, and its customer."""
    plain = make_usage(settled_at=HOUR)
    make_usage(settled_at=HOUR, source="estimated")
    make_usage(settled_at=HOUR, flags="usage_total_mismatch")
    post_hours(now=HOUR + timedelta(hours=2))
    return plain.charged_nanousd, plain.customer_id


def clear(kind: MovementKind, amount_nanousd: int, *, customer_id: int | None = None, **options: str) -> Movement:
    return order_movement(
        Order(
            kind=kind,
            customer_id=customer_id,
            amount_nanousd=amount_nanousd,
            reason="looked at",
            author="ann",
            **options,  # type: ignore[arg-type]
        )
    )


def test_estimated_and_flagged_calls_wait_in_suspense_until_released() -> None:
    charged, _ = set_aside()
    assert inside(AccountKind.SUSPENSE) == 2 * charged
    for _ in range(2):
        clear(MovementKind.SUSPENSE_RELEASE, charged, reference="release-1")
    assert inside(AccountKind.SUSPENSE) == charged
    with pytest.raises(AmountInvalid, match="is in suspense"):
        clear(MovementKind.SUSPENSE_RELEASE, charged + 1)


def test_suspense_goes_back_to_a_customer_as_prepaid_money() -> None:
    charged, customer_id = set_aside()
    before, revenue = read_funds(customer_id).prepaid_nanousd, inside(AccountKind.REVENUE)
    clear(MovementKind.SUSPENSE_RETURN, charged, customer_id=customer_id)
    assert read_funds(customer_id).prepaid_nanousd == before + charged
    assert (inside(AccountKind.SUSPENSE), inside(AccountKind.REVENUE)) == (charged, revenue)
    with pytest.raises(AmountInvalid, match="is in suspense"):
        clear(MovementKind.SUSPENSE_RETURN, charged + 1, customer_id=customer_id)


def test_a_large_release_waits_for_a_second_person(settings: Settings) -> None:
    settings.MONEY_APPROVAL_NANOUSD = 0
    charged, customer_id = set_aside()
    waiting = clear(MovementKind.SUSPENSE_RELEASE, charged)
    assert (waiting.status, inside(AccountKind.SUSPENSE)) == (MovementStatus.WAITING, 2 * charged)
    with pytest.raises(ApprovalRefused):
        approve_movement(waiting.pk, author="ann")
    approve_movement(waiting.pk, author="bob")
    assert inside(AccountKind.SUSPENSE) == charged
    with pytest.raises(AmountInvalid):
        clear(MovementKind.SUSPENSE_RELEASE, 1, customer_id=customer_id)


def test_the_page_asks_twice_and_for_a_customer_where_money_goes_back(admin_client: Client) -> None:
    charged, customer_id = set_aside()
    url = "/admin/billing/account/suspense/"
    assert url in admin_client.get("/admin/billing/account/explained/").content.decode()
    data = {"reference": "r", "kind": "suspense_return", "amount": format_usd(charged), "reason": "wrong"}
    assert "customer" in admin_client.post(url, data).context["form"].errors
    data["customer"] = str(customer_id)
    assert "In suspense now" in [fact.label for fact in admin_client.post(url, data).context["facts"]]
    assert admin_client.post(url, {**data, "_confirmed": "1"}).status_code == 302
    assert "customer" in admin_client.post(url, {**data, "kind": "suspense_release"}).context["form"].errors
    movement = Movement.objects.get()
    assert (movement.kind, movement.amount_nanousd, movement.author) == ("suspense_return", charged, "admin")
    assert admin_client.get(f"/admin/billing/movement/{movement.pk}/change/").status_code == 200
    assert admin_client.get("/admin/billing/movement/").status_code == 200

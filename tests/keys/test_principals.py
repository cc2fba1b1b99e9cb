"""A snapshot says who calls and what applies to them; any change of its rows makes it differ."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from common.clock import SYSTEM_CLOCK, to_us
from common.sql import Sql
from keys.customers import set_customer_status
from keys.issuing import revoke_key
from keys.models import ApiKey, Customer, CustomerStatus, KeyEnvironment, Plan
from keys.principals import Principal, hashes_of, principal_of_row, read_principals_by_hash, read_rows_by_key_id
from tests.conftest import NOON_US
from tests.factories import find_principal, make_customer, make_key, make_plan

pytestmark = pytest.mark.django_db


def test_a_snapshot_names_key_customer_and_plan() -> None:
    plan = make_plan(requests_per_minute=60)
    customer = make_customer(name="Acme", plan=plan)
    issued = make_key(customer, name="backend", scopes=["chat:write"], environment=KeyEnvironment.TEST)
    principal = find_principal(issued.token)
    assert (principal.key_id, principal.key_public_id) == (issued.key.pk, issued.key.public_id)
    assert (principal.key_name, principal.environment) == ("backend", "test")
    assert principal.scopes == {"chat:write"}
    assert (principal.customer_id, principal.customer_name) == (customer.pk, "Acme")
    assert principal.plan_slug == plan.slug
    assert (principal.customer_owner, principal.key_owner) == (f"customer:{customer.pk}", f"key:{issued.key.pk}")
    assert principal.is_active(SYSTEM_CLOCK.now_us())


def test_a_customers_own_limit_replaces_its_plans_and_the_keys_stands_beside() -> None:
    plan = make_plan(requests_per_minute=60, concurrency=5, spend_per_day_nanousd=1)
    customer = make_customer(plan=plan, limits={"requests_per_minute": 600, "spend_per_day_nanousd": 0})
    principal = find_principal(make_key(customer, limits={"concurrency": 9}).token)
    applying = principal.customer_limits
    assert (applying.requests_per_minute, applying.concurrency, applying.spend_per_day_nanousd) == (600, 5, 0)
    assert applying.sources == {
        "requests_per_minute": "customer",
        "concurrency": "plan",
        "spend_per_day_nanousd": "customer",
    }
    assert (principal.key_limits.requests_per_minute, principal.key_limits.concurrency) == (None, 9)
    assert principal.key_limits.sources == {"concurrency": "key"}


@pytest.mark.parametrize(
    ("of_key", "of_plan", "applies"), [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (9, 7, 7), (0, 7, 0)]
)
def test_the_smaller_cap_on_input_counts(of_key: int | None, of_plan: int | None, applies: int | None) -> None:
    customer = make_customer(plan=make_plan(max_input_tokens=of_plan))
    principal = find_principal(make_key(customer, limits={"max_input_tokens": of_key}).token)
    assert principal.max_input_tokens_at(NOON_US) == applies


@pytest.mark.parametrize(
    ("allowed", "name", "may"),
    [
        ([], "anything", True),
        (["gpt-4o"], "gpt-4o", True),
        (["gpt-4o"], "gpt-4o-mini", False),
        (["gpt-*"], "gpt-4o-mini", True),
        (["gpt-*"], "llama", False),
        (["*"], "llama", True),
        (["a", "b*"], "bee", True),
    ],
)
def test_a_key_may_use_the_models_of_its_list(allowed: list[str], name: str, may: bool) -> None:
    assert find_principal(make_key(allowed_models=allowed).token).may_use_model(name) is may


def _revoke(key: ApiKey) -> None:
    revoke_key(key_id=key.pk, reason="leaked")


def _suspend(key: ApiKey) -> None:
    set_customer_status(customer_id=key.customer_id, status=CustomerStatus.SUSPENDED)


def _expire(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(expires_at=datetime.now(UTC) - timedelta(microseconds=1))


@pytest.mark.parametrize("end", [_revoke, _suspend, _expire])
def test_an_ended_key_is_found_and_is_not_active(end: Callable[[ApiKey], None]) -> None:
    issued = make_key()
    end(issued.key)
    assert not find_principal(issued.token).is_active(SYSTEM_CLOCK.now_us())


def test_a_key_expires_at_its_very_moment() -> None:
    moment = datetime.now(UTC) + timedelta(days=1)
    principal = find_principal(make_key(expires_at=moment).token)
    assert principal.is_active(to_us(moment) - 1)
    assert not principal.is_active(to_us(moment))


def _change_scopes(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(scopes=["chat:write"])


def _change_models(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(allowed_models=["other"])


def _change_key_limit(key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(concurrency=1)


def _change_customer_limit(key: ApiKey) -> None:
    Customer.objects.filter(pk=key.customer_id).update(requests_per_minute=1)


def _change_plan_limit(key: ApiKey) -> None:
    Plan.objects.filter(pk=Customer.objects.get(pk=key.customer_id).plan_id).update(spend_per_day_nanousd=1)


def _change_plan(key: ApiKey) -> None:
    Customer.objects.filter(pk=key.customer_id).update(plan=make_plan())


@pytest.mark.parametrize(
    "change",
    [
        _revoke,
        _suspend,
        _expire,
        _change_scopes,
        _change_models,
        _change_key_limit,
        _change_customer_limit,
        _change_plan_limit,
        _change_plan,
    ],
)
def test_any_change_that_matters_makes_the_row_differ(change: Callable[[ApiKey], None]) -> None:
    issued = make_key()
    principal = find_principal(issued.token)
    assert _row_now(principal) == principal.row
    change(issued.key)
    assert _row_now(principal) != principal.row
    assert principal_of_row(_row_now(principal)) == find_principal(issued.token)


def test_being_used_does_not_make_the_row_differ() -> None:
    issued = make_key()
    principal = find_principal(issued.token)
    ApiKey.objects.filter(pk=issued.key.pk).update(last_used_at=datetime.now(UTC), last_used_address="127.0.0.1")
    assert _row_now(principal) == principal.row


def _row_now(principal: Principal) -> tuple[object, ...]:
    return read_rows_by_key_id(Sql(connection), [principal.key_id])[principal.key_id]


def test_unknown_hashes_are_absent_and_old_peppers_still_count() -> None:
    issued = make_key()
    found = read_principals_by_hash(Sql(connection), ["0" * 64, issued.key.secret_hmac])
    assert list(found) == [issued.key.secret_hmac]
    assert hashes_of("token", ["new", "old"])[1] == hashes_of("token", ["old"])[0]

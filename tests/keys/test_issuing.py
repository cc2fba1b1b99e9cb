"""A key is shown once, stored as a hash, and ends for good."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from keys.errors import KeyAlreadyRevoked, KeyInvalid
from keys.issuing import issue_key, revoke_key
from keys.models import ApiKey, KeyEnvironment
from keys.scopes import Scope
from keys.tokens import is_well_formed
from tests.factories import find_principal, make_customer, make_key

pytestmark = pytest.mark.django_db


def test_the_secret_is_stored_nowhere() -> None:
    issued = make_key()
    assert is_well_formed(issued.token)
    stored = ApiKey.objects.filter(pk=issued.key.pk).values().get()
    assert not any(issued.token in str(value) for value in stored.values())
    assert issued.token.startswith(stored["prefix"])
    assert len(stored["prefix"]) < len(issued.token) - 20


def test_a_key_gets_every_scope_but_what_administers_unless_told_otherwise() -> None:
    assert find_principal(make_key().token).scopes == set(Scope) - {Scope.KEYS_MANAGE, Scope.PROMPTS_TEST}
    assert find_principal(make_key(scopes=["models:read"]).token).scopes == {"models:read"}


def test_a_known_secret_can_be_brought_along_once() -> None:
    customer = make_customer()
    first = make_key(customer, environment=KeyEnvironment.TEST)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_key(customer, token=first.token)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"scopes": ["chat:write", "root:write"]}, "scopes"),
        ({"limits": {"request_per_minute": 5}}, "limits"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(options: dict[str, Any], param: str) -> None:
    customer = make_customer()
    with pytest.raises(KeyInvalid) as refused:
        issue_key(**{"customer_id": customer.pk, "name": "k", "author": "tests", **options})
    assert refused.value.param == param
    assert not ApiKey.objects.filter(customer=customer).exists()


def test_a_future_expiry_is_taken() -> None:
    moment = datetime.now(UTC) + timedelta(days=30)
    assert make_key(expires_at=moment).key.expires_at == moment


def test_a_revocation_keeps_its_reason_and_is_final() -> None:
    issued = make_key()
    revoke_key(key_id=issued.key.pk, reason="  leaked in a repository ")
    key = ApiKey.objects.get(pk=issued.key.pk)
    assert key.state() == "revoked"
    assert key.revoked_reason == "leaked in a repository"
    with pytest.raises(KeyAlreadyRevoked):
        revoke_key(key_id=issued.key.pk, reason="again")
    assert ApiKey.objects.get(pk=issued.key.pk).revoked_at == key.revoked_at


def test_a_revocation_needs_a_reason() -> None:
    issued = make_key()
    with pytest.raises(KeyInvalid):
        revoke_key(key_id=issued.key.pk, reason="  ")
    assert ApiKey.objects.get(pk=issued.key.pk).state() == "active"
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.filter(pk=issued.key.pk).update(revoked_at=datetime.now(UTC))


def test_the_state_of_a_key_follows_the_clock() -> None:
    moment = datetime.now(UTC) + timedelta(days=1)
    key = make_key(expires_at=moment).key
    assert key.state(now=moment - timedelta(microseconds=1)) == "active"
    assert key.state(now=moment) == "expired"

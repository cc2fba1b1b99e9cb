"""A rotated key works beside its successor for as long as was said, and no longer than it would have."""

from datetime import UTC, datetime, timedelta

import pytest

from keys.errors import KeyInvalid, KeyNotRotatable
from keys.issuing import issue_key, revoke_key, rotate_key
from keys.limits import LIMIT_COLUMNS
from keys.models import ApiKey, AuditEvent
from keys.overlaps import parse_overlap
from tests.factories import find_principal, make_customer, make_key

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def _rotate(key: ApiKey, overlap: timedelta = HOUR) -> ApiKey:
    return rotate_key(key_id=key.pk, overlap=overlap, reason="yearly", author="tests").key


def test_the_successor_has_the_same_rights_and_limits() -> None:
    issued = make_key(
        scopes=["chat:write"],
        allowed_models=["gpt-*"],
        allowed_prompts=["greeting"],
        allowed_networks=["192.0.2.0/24"],
        limits={"requests_per_minute": 7},
    )
    successor = _rotate(issued.key)
    columns = ("customer_id", "name", "environment", "scopes", *(f"allowed_{n}" for n in ("models", "prompts")))
    for column in (*columns, "allowed_networks", *LIMIT_COLUMNS):
        assert getattr(successor, column) == getattr(issued.key, column), column


def test_both_work_until_the_overlap_ends() -> None:
    issued = make_key()
    successor = _rotate(issued.key)
    old = find_principal(issued.token)
    assert old.deprecated_us is not None
    assert old.expires_us is not None
    assert old.is_active(old.expires_us - 1)
    assert not old.is_active(old.expires_us)
    assert abs(old.expires_us - old.deprecated_us - HOUR.total_seconds() * 1_000_000) < 1_000_000
    assert successor.state() == "active"
    assert ApiKey.objects.get(pk=issued.key.pk).state() == "rotated"


def test_without_an_overlap_the_old_key_ends_at_once() -> None:
    issued = make_key()
    _rotate(issued.key, timedelta(0))
    assert ApiKey.objects.get(pk=issued.key.pk).state() == "expired"


def test_the_old_key_never_outlives_its_own_expiry_and_the_successor_lives_as_long_again() -> None:
    expiry = datetime.now(UTC) + timedelta(minutes=30)
    issued = make_key(expires_at=expiry)
    successor = _rotate(issued.key, timedelta(days=7))
    old = ApiKey.objects.get(pk=issued.key.pk)
    assert old.expires_at == expiry
    assert successor.expires_at is not None
    assert expiry < successor.expires_at <= datetime.now(UTC) + timedelta(minutes=30)


def test_a_key_has_one_successor() -> None:
    issued = make_key()
    _rotate(issued.key)
    with pytest.raises(KeyNotRotatable):
        _rotate(issued.key)
    assert ApiKey.objects.filter(customer_id=issued.key.customer_id).count() == 2


def test_an_ended_key_is_not_rotated() -> None:
    issued = make_key()
    revoke_key(key_id=issued.key.pk, reason="gone")
    with pytest.raises(KeyNotRotatable):
        _rotate(issued.key)


def test_a_rotation_needs_a_reason_and_tells_the_audit_trail() -> None:
    issued = make_key()
    with pytest.raises(KeyInvalid):
        rotate_key(key_id=issued.key.pk, overlap=HOUR, reason=" ", author="tests")
    successor = _rotate(issued.key)
    event = AuditEvent.objects.get(action="api_key.rotated")
    assert (event.object_id, event.reason, event.after["successor"]) == (str(issued.key.pk), "yearly", successor.prefix)


def test_revoking_a_key_ends_those_that_it_made_and_theirs() -> None:
    customer = make_customer()
    keys = [make_key(customer).key]
    for _ in range(3):
        keys.append(
            issue_key(customer_id=customer.pk, name="child", author="tests", maker_id=keys[-1].pk).key,
        )
    other = make_key(customer).key
    ended = revoke_key(key_id=keys[1].pk, reason="leaked")
    assert [key.pk for key in ended] == [key.pk for key in keys[1:]]
    states = {key.pk: key.state() for key in ApiKey.objects.filter(customer=customer)}
    assert [states[key.pk] for key in keys] == ["active", "revoked", "revoked", "revoked"]
    assert states[other.pk] == "active"


def test_keys_that_a_rotated_key_made_belong_to_its_successor() -> None:
    issued = make_key()
    child = issue_key(customer_id=issued.key.customer_id, name="child", author="tests", maker_id=issued.key.pk).key
    successor = _rotate(issued.key)
    assert ApiKey.objects.get(pk=child.pk).maker_id == successor.pk


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", timedelta(0)),
        ("1h", HOUR),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
        ("2026-11-21T13:00:00Z", HOUR),
        ("2026-11-21 13:00", HOUR),
        ("2026-11-21T14:00:00+01:00", HOUR),
    ],
)
def test_overlaps_are_choices_or_moments(text: str, expected: timedelta) -> None:
    assert parse_overlap(text, now=datetime(2026, 11, 21, 12, tzinfo=UTC)) == expected


@pytest.mark.parametrize("text", ["", "2h", "tomorrow", "2020-01-01", "-1h"])
def test_other_overlaps_are_refused(text: str) -> None:
    with pytest.raises(KeyInvalid):
        parse_overlap(text)

"""The trail names who did what, keeps no secret, and is there exactly when the change is."""

from datetime import UTC, datetime

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger import grant_credit
from common.money import parse_usd
from keys.audit import Actor, Target, author_actor, command_actor, key_actor, record_event
from keys.customers import set_customer_status
from keys.errors import KeyAlreadyRevoked
from keys.issuing import revoke_key
from keys.models import ActorKind, AuditEvent, CustomerStatus, KeyEnvironment
from keys.redaction import HIDDEN, clean_text, show_values
from keys.tokens import make_token
from tests.factories import find_principal, make_customer, make_key, make_price

pytestmark = pytest.mark.django_db

ADA = Actor(kind=ActorKind.ADMIN, id="7", name="ada", address="192.0.2.1")


def last_event(action: str) -> AuditEvent:
    return AuditEvent.objects.filter(action=action).latest("id")


def test_issuing_records_who_and_what_and_never_the_secret() -> None:
    issued = make_key(actor=ADA, limits={"spend_per_day_nanousd": parse_usd("2.5")})
    event = last_event("api_key.issued")
    assert (event.actor_kind, event.actor_name, event.actor_id, event.address) == ("admin", "ada", "7", "192.0.2.1")
    assert (event.object_kind, event.object_id) == ("keys.apikey", str(issued.key.pk))
    assert event.after["prefix"] == issued.key.prefix
    assert event.after["spend_per_day_usd"] == "2.50"
    trail = str(list(AuditEvent.objects.values()))
    assert issued.token not in trail
    assert issued.key.secret_hmac not in trail


def test_revoking_records_the_reason_and_the_states() -> None:
    key = make_key().key
    revoke_key(key_id=key.pk, reason="leaked", actor=ADA)
    event = last_event("api_key.revoked")
    assert (event.before, event.after, event.reason) == ({"state": "active"}, {"state": "revoked"}, "leaked")


def test_a_refused_change_leaves_no_entry() -> None:
    key = make_key().key
    revoke_key(key_id=key.pk, reason="leaked", actor=ADA)
    count = AuditEvent.objects.count()
    with pytest.raises(KeyAlreadyRevoked):
        revoke_key(key_id=key.pk, reason="again", actor=ADA)
    assert AuditEvent.objects.count() == count


def test_a_change_that_is_rolled_back_takes_its_entry_with_it() -> None:
    count = AuditEvent.objects.count()
    with transaction.atomic():
        make_customer()
        transaction.set_rollback(True)
    assert AuditEvent.objects.count() == count


def test_suspending_twice_is_recorded_once() -> None:
    customer = make_customer()
    for _ in range(2):
        set_customer_status(customer_id=customer.pk, status=CustomerStatus.SUSPENDED, actor=ADA)
    event = AuditEvent.objects.get(action="customer.suspended")
    assert (event.before, event.after) == ({"status": "active"}, {"status": "suspended"})


def test_credit_is_recorded_in_exact_usd_and_once_a_reference() -> None:
    customer = make_customer(credit_usd="0")
    for _ in range(2):
        grant_credit(
            customer_id=customer.pk, amount_nanousd=1, reason="goodwill", author="ada", reference="r1", actor=ADA
        )
    event = AuditEvent.objects.get(action="credit.granted")
    assert event.after["amount_usd"] == "0.000000001"
    assert (event.object_kind, event.object_id, event.reason) == ("keys.customer", str(customer.pk), "goodwill")


def test_a_price_is_recorded_with_all_its_rates() -> None:
    make_price("alpha", input_usd="0.15")
    assert last_event("price.published").after["input_usd"] == "0.15"


def test_an_author_without_more_is_a_command_or_the_system() -> None:
    assert author_actor("manage.py apply").kind is ActorKind.COMMAND
    assert author_actor("tests") == Actor(kind=ActorKind.SYSTEM, name="tests")
    assert command_actor("manage.py x").kind is ActorKind.COMMAND


def test_a_key_that_acts_is_named_by_its_public_id_and_prefix() -> None:
    issued = make_key(name="website")
    actor = key_actor(find_principal(issued.token), "192.0.2.9")
    assert (actor.kind, actor.id) == (ActorKind.KEY, issued.key.public_id)
    assert actor.name == f"{issued.key.prefix}… (website)"
    assert issued.token not in actor.name


@pytest.mark.parametrize(
    "name", ["secret", "encrypted_secret", "secret_hmac", "password", "password1", "token", "remove_secret", "key hash"]
)
def test_secret_fields_are_hidden_whatever_they_hold(name: str) -> None:
    assert show_values({name: "anything"}) == {name: HIDDEN}
    assert show_values({name: ""}) == {name: None}


def test_counts_of_tokens_are_no_secrets() -> None:
    values = {"max_output_tokens": 5, "input_tokens_per_minute": 7}
    assert show_values(values) == values


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnop123456",
        "pbkdf2_sha256$1000000$salt$hash",
        "gAAAAABmZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ",
        make_token(KeyEnvironment.LIVE),
    ],
    ids=["provider", "password", "ciphertext", "ours"],
)
def test_secrets_pasted_into_a_reason_are_cut_out(secret: str) -> None:
    event = record_event(
        actor=ADA,
        action="api_key.noted",
        target=Target(kind="keys.apikey", id="1", name=f"about {secret}"),
        after={"note": f"it was {secret}, sorry", "list": [secret], "nested": {"a": secret}},
        reason=f"leaked {secret} yesterday",
    )
    assert secret not in str(vars(event))


def test_values_of_every_kind_become_json() -> None:
    shown = show_values(
        {"at": datetime(2026, 1, 2, tzinfo=UTC), "share": 0.5, "list": ["b", "a"], "none": None, "on": True}
    )
    assert shown == {"at": "2026-01-02T00:00:00+00:00", "share": "0.5", "list": ["b", "a"], "none": None, "on": True}


@given(st.text(max_size=2_000))
def test_any_text_can_be_kept(text: str) -> None:
    cleaned = clean_text(text)
    assert len(cleaned) <= 1_000
    assert "\x00" not in cleaned

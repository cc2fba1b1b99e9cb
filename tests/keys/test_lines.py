"""What rotated keys and the keys that keys make have in common: limits, counters, and never more than their makers."""

from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client

from billing.models import Hold
from billing.reconciliation import reconcile
from common.clock import SYSTEM_CLOCK, FrozenClock
from common.sql import Sql
from gateway.admission.commands import Admitted, Refused
from keys.errors import KeyExceedsMaker
from keys.issuing import IssuedKey, revoke_key, rotate_key
from keys.lines import read_line_members, read_principal_of_line
from keys.models import ApiKey, Customer, LimitState
from keys.principals import Principal
from keys.self_service import MAX_MAKERS, KeyRequest, make_own_key, revoke_own_key, rotate_own_key
from tests.admitting import assert_books_agree, make_context, run
from tests.factories import find_principal, funded_call, known_call, make_customer, make_family, make_key, make_raise

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
MANAGER = ("chat:write", "keys:manage")


def _rotate(issued: IssuedKey) -> IssuedKey:
    return rotate_key(key_id=issued.key.pk, overlap=HOUR, reason="for a test", author="tests")


def _make(maker: Principal, **wanted: object) -> IssuedKey:
    return make_own_key(maker, KeyRequest(name="made", scopes=MANAGER, **wanted), address=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("endpoint_class", ["chat", "embeddings"])
@pytest.mark.parametrize(
    "limits",
    [
        {"concurrency": 3},
        {"spend_per_day_nanousd": 300},
        {"spend_per_month_nanousd": 300},
        {"spend_total_nanousd": 300},
    ],
)
def test_what_one_key_of_a_family_took_the_others_do_not_have(limits: dict[str, int], endpoint_class: str) -> None:
    family = make_family(funded_call(key_limits=dict(limits)))
    context = make_context()
    for call in family[1:]:
        question = call.admit(amount_nanousd=100)._replace(endpoint_class=endpoint_class)
        (answer,) = run(question, context=context)
        assert isinstance(answer, Admitted)
    for call in family:
        (refused,) = run(call.admit(amount_nanousd=100)._replace(endpoint_class=endpoint_class), context=context)
        assert isinstance(refused, Refused)
    assert reconcile().is_clean, reconcile().as_text()


def test_places_and_budget_that_a_successor_did_not_use_come_back_to_the_old_key() -> None:
    old, *_, made = make_family(funded_call(key_limits={"concurrency": 1, "output_tokens_per_minute": 100}))
    context = make_context()
    question = made.admit(amount_nanousd=100, input_tokens=1, output_tokens=100)
    (admitted,) = run(question, context=context)
    assert isinstance(admitted, Admitted)
    settled = made.settle(question.request_id, cost_nanousd=10)
    run(settled._replace(marks=admitted.marks), context=context)
    (again,) = run(old.admit(amount_nanousd=100, input_tokens=1, output_tokens=100), context=context)
    assert isinstance(again, Admitted)
    assert_books_agree(old.customer_id)


def test_a_refusal_names_the_maker_as_the_owner_of_its_limit() -> None:
    call = funded_call(key_limits={"spend_per_day_nanousd": 50})
    made = make_key(Customer.objects.get(pk=call.customer_id), maker_id=call.principal.key_id)
    (refused,) = run(known_call(token=made.token, model=call.model).admit(amount_nanousd=100))
    assert isinstance(refused, Refused)
    assert refused.error.details is not None
    assert (refused.error.details["owner"], refused.error.details["set_by"]) == ("maker", "maker")
    assert "key that made this one" in str(refused.error)


def test_a_raise_on_any_key_of_a_line_counts_for_all_of_it_and_for_what_it_made() -> None:
    old = make_key(limits={"concurrency": 1}, scopes=MANAGER)
    new = _rotate(old)
    made = _make(find_principal(new.token))
    make_raise(ApiKey.objects.get(pk=new.key.pk), "concurrency", 7)
    now_us = round(datetime.now(UTC).timestamp() * 1_000_000)
    for token, place in ((old.token, 1), (new.token, 1), (made.token, 2)):
        assert find_principal(token).limits_at(now_us)[place].concurrency == 7
    # The made key's own limit is a copy, which nobody has raised.
    assert find_principal(made.token).limits_at(now_us)[1].concurrency == 1


def test_editing_the_limits_of_a_successor_edits_those_of_the_old_key(admin_client: Client) -> None:
    old = make_key(limits={"concurrency": 1, "requests_per_minute": 5})
    new = _rotate(old)
    url = f"/admin/keys/apikey/{new.key.pk}/change/"
    form = {"name": "test key", "scopes": ["chat:write"], "requests_per_minute": "5", "concurrency": "4"}
    response = admin_client.post(url, form)
    assert response.status_code == 302, response.content
    limits = find_principal(old.token).key_limits
    assert (limits.concurrency, limits.requests_per_minute) == (4, 5)


def test_a_made_key_loses_what_its_maker_loses_later() -> None:
    maker = make_key(scopes=MANAGER)
    made = _make(find_principal(maker.token))
    grandchild = _make(find_principal(made.token))
    ApiKey.objects.filter(pk=maker.key.pk).update(
        scopes=["keys:manage"],
        allowed_models=["small-*"],
        allowed_networks=["192.0.2.0/24"],
        expires_at=datetime.now(UTC) + HOUR,
    )
    for token in (made.token, grandchild.token):
        principal = find_principal(token)
        assert principal.scopes == {"keys:manage"}
        assert [principal.may_use_model(name) for name in ("small-1", "large-1")] == [True, False]
        assert [principal.may_call_from(address) for address in ("192.0.2.9", "198.51.100.1")] == [True, False]
        assert principal.expires_us == find_principal(maker.token).expires_us


def test_a_change_of_a_maker_makes_the_snapshot_of_what_it_made_stale() -> None:
    call = funded_call()
    made = make_key(Customer.objects.get(pk=call.customer_id), maker_id=call.principal.key_id)
    question = known_call(token=made.token, model=call.model).admit(amount_nanousd=1)
    ApiKey.objects.filter(pk=call.principal.key_id).update(concurrency=0)
    context = make_context()
    (stale,) = run(question, context=context)
    fresh = getattr(stale, "principal", None)
    assert isinstance(fresh, Principal)
    (refused,) = run(question._replace(principal=fresh), context=context)
    assert isinstance(refused, Refused)
    assert refused.error.code == "limit_is_zero"


def test_keys_make_keys_to_a_bounded_depth() -> None:
    principal = find_principal(make_key(scopes=MANAGER).token)
    for _ in range(MAX_MAKERS):
        principal = find_principal(_make(principal).token)
    with pytest.raises(KeyExceedsMaker, match=f"{MAX_MAKERS} keys stand above"):
        _make(principal)
    # What a hold remembers of the owners of such a call fits its column, with ids of ten digits.
    assert len(";embeddings,customer:") + 10 + (MAX_MAKERS + 1) * len(",key:0123456789") <= 100


def test_a_maker_that_was_narrowed_still_rotates_and_revokes_what_it_made_and_no_other() -> None:
    customer = make_customer()
    maker = make_key(customer, scopes=MANAGER, limits={"concurrency": 9})
    made = _make(find_principal(maker.token))
    stranger = make_key(customer, limits={"concurrency": 9})
    ApiKey.objects.filter(pk=maker.key.pk).update(concurrency=2)
    principal = find_principal(maker.token)
    successor = rotate_own_key(principal, made.key.public_id, overlap=HOUR, reason="x", address=None)
    revoke_own_key(principal, successor.key.public_id, reason="x", address=None)
    with pytest.raises(KeyExceedsMaker):
        revoke_own_key(principal, stranger.key.public_id, reason="x", address=None)


def test_members_of_a_line_are_its_keys_and_all_that_these_made() -> None:
    old = make_key(scopes=MANAGER)
    made_before = _make(find_principal(old.token))
    new = _rotate(old)
    made_after = _make(find_principal(new.token))
    grandchild = _make(find_principal(made_after.token))
    make_key()
    members = read_line_members(Sql(connection))
    whole = {each.key.pk for each in (old, made_before, new, made_after, grandchild)}
    assert members == {old.key.pk: whole, made_after.key.pk: {made_after.key.pk, grandchild.key.pk}} | {
        made_before.key.pk: {made_before.key.pk},
        grandchild.key.pk: {grandchild.key.pk},
    }


def test_the_migration_brings_keys_and_open_calls_of_before_into_lines() -> None:
    context = make_context()
    family = make_family(funded_call(key_limits={"concurrency": 9}))
    made = family[-1].principal.key_id
    ApiKey.objects.update(line=None)
    ApiKey.objects.filter(pk=made).update(maker=None)
    separate = [known_call(token=call.token, model=call.model) for call in family]
    for call in separate:
        run(call.admit(amount_nanousd=100), context=context)
        run(call.admit(amount_nanousd=100)._replace(endpoint_class="embeddings"), context=context)
    for hold in Hold.objects.filter(owners__contains=";"):
        names = hold.owners.partition(";")[0].split(",")
        hold.owners = ",".join([*names, *(f"{name}/embeddings" for name in names)])
        hold.save(update_fields=["owners"])
    ApiKey.objects.filter(pk=made).update(maker=family[-2].principal.key_id)
    migration = import_module("gateway.migrations.0006_share_counters_of_lines")
    with transaction.atomic():
        migration.share_counters(apps, None)
    assert [find_principal(call.token).owner_names for call in family] == [
        call.principal.owner_names for call in family
    ]
    assert LimitState.objects.get(owner=family[0].principal.key_owner).in_flight == 8
    assert reconcile().is_clean, reconcile().as_text()
    later = make_context(FrozenClock(SYSTEM_CLOCK.now_us() + 10**12))
    run(known_call(token=family[0].token, model=family[0].model).admit(amount_nanousd=1), context=later)
    assert LimitState.objects.get(owner=family[0].principal.key_owner).in_flight == 0


def test_of_a_line_the_newest_key_that_works_stands_for_all() -> None:
    first = make_key().key

    def find() -> int | None:
        found = read_principal_of_line(Sql(connection), first.pk, now_us=SYSTEM_CLOCK.now_us())
        return None if found is None else found.key_id

    assert find() == first.pk
    second = rotate_key(key_id=first.pk, overlap=HOUR, reason="a test", author="tests").key
    third = rotate_key(key_id=second.pk, overlap=HOUR, reason="a test", author="tests").key
    assert find() == third.pk
    revoke_key(key_id=third.pk, reason="a test")
    assert find() == second.pk
    revoke_key(key_id=second.pk, reason="a test")
    revoke_key(key_id=first.pk, reason="a test")
    assert find() == third.pk
    assert read_principal_of_line(Sql(connection), 10**9, now_us=0) is None

"""Which rules a call falls under, and what becomes of rules that nobody can use."""

import pytest
from django.db import connection

from common.sql import Sql
from gateway.catalogue import read_catalogue
from gateway.guard_models import GuardRule
from gateway.guards.book import GuardBook, read_guard_book
from gateway.guards.values import Surface
from gateway.guards.width import UnboundedPattern
from tests.factories import find_principal, make_customer, make_guard, make_key
from tests.prompting import make_prompt

pytestmark = pytest.mark.django_db


def read() -> GuardBook:
    book = read_guard_book(Sql(connection))
    assert book is not None
    return book


def test_without_a_policy_for_anybody_there_is_nothing_to_ask() -> None:
    make_guard({"kind": "pii", "action": "block"})
    make_guard({"kind": "pii", "action": "block"}, is_active=False, is_for_everybody=True)
    assert read_catalogue(Sql(connection)).guards is None


def test_all_policies_that_a_call_falls_under_count_together() -> None:
    customer, prompt = make_customer(), make_prompt()
    principal = find_principal(make_key(customer).token)
    make_guard({"kind": "length", "action": "flag", "max_characters": 9}, is_for_everybody=True)
    make_guard({"kind": "length", "action": "flag", "max_characters": 8}, plan_id=customer.plan_id)
    make_guard({"kind": "length", "action": "flag", "max_characters": 7}, customer_id=customer.pk)
    make_guard({"kind": "length", "action": "flag", "max_characters": 6}, prompt_id=prompt.pk)
    book = read()

    def lengths(name: str) -> list[int]:
        return [rule.max_characters for rule in book.find(principal, name)[Surface.USER].lengths]

    assert lengths("") == [9, 8, 7]
    assert lengths(prompt.name) == [9, 8, 7, 6]
    stranger = find_principal(make_key().token)
    assert [rule.max_characters for rule in book.find(stranger, "")[Surface.USER].lengths] == [9]


def test_rules_that_are_switched_off_do_not_count() -> None:
    make_guard({"kind": "pii", "action": "block", "is_active": False}, is_for_everybody=True)
    assert not read().find(find_principal(make_key().token), "")


def test_a_rule_that_nobody_can_use_fails_its_own_calls_and_no_others() -> None:
    customer = make_customer()
    make_guard({"kind": "pattern", "action": "block", "pattern": "a"}, customer_id=customer.pk)
    make_guard({"kind": "pii", "action": "block"}, is_for_everybody=True)
    GuardRule.objects.filter(kind="pattern").update(pattern="(a")
    book = read()
    assert book.find(find_principal(make_key().token), "")
    with pytest.raises(UnboundedPattern):
        book.find(find_principal(make_key(customer).token), "")

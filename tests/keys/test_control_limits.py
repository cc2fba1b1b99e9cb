"""Calls of the control plane are counted exactly, apart from chat, and only where something limits them."""

import pytest
from django.db import connection

from keys.control_limits import take_control_request
from keys.errors import LimitIsZero, RateLimitExceeded
from keys.models import LimitState
from tests.conftest import NOON_US
from tests.factories import find_principal, make_customer, make_key, make_plan

pytestmark = pytest.mark.django_db

SECOND = 1_000_000


def test_the_last_place_is_given_once_and_the_next_refills() -> None:
    principal = find_principal(make_key(make_customer(plan=make_plan(control_requests_per_minute=3))).token)
    answers = [take_control_request(connection, principal, NOON_US) for _ in range(4)]
    assert [answer.error is None for answer in answers] == [True, True, True, False]
    assert isinstance(answers[-1].error, RateLimitExceeded)
    assert answers[-1].error.details["endpoint_class"] == "control"
    assert answers[-1].error.retry_after_seconds == 20
    assert [reading.remaining for answer in answers for reading in answer.limits] == [2, 1, 0, 0]
    assert take_control_request(connection, principal, NOON_US + 20 * SECOND).error is None


def test_a_refusal_of_the_key_takes_nothing_of_the_customer() -> None:
    customer = make_customer(limits={"control_requests_per_minute": 10})
    principal = find_principal(make_key(customer, limits={"control_requests_per_minute": 1}).token)
    for _ in range(3):
        take_control_request(connection, principal, NOON_US)
    debts = dict(LimitState.objects.values_list("owner", "requests_debt"))
    assert debts == {f"customer:{customer.pk}/control": 60 * SECOND, f"key:{principal.key_id}/control": 60 * SECOND}


def test_a_limit_of_zero_says_so() -> None:
    principal = find_principal(make_key(limits={"control_requests_per_minute": 0}).token)
    assert isinstance(take_control_request(connection, principal, NOON_US).error, LimitIsZero)


def test_without_a_limit_nothing_is_written() -> None:
    principal = find_principal(make_key(limits={"requests_per_minute": 1}).token)
    answer = take_control_request(connection, principal, NOON_US)
    assert (answer.limits, answer.error) == ((), None)
    assert not LimitState.objects.exists()

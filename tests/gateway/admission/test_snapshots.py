"""A call planned with an outdated snapshot of key or catalogue is never decided by it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError

from common.clock import FrozenClock, from_us
from common.errors import AuthenticationFailed
from gateway.admission import batch
from gateway.admission.commands import (
    Admitted,
    Refused,
    Settled,
    Stale,
)
from gateway.admission.context import BatchContext
from gateway.models import Model
from keys.customers import set_customer_status
from keys.issuing import revoke_key
from keys.models import ApiKey, Customer, CustomerStatus
from tests.admitting import assert_books_agree, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, find_principal, funded_call, make_model, make_price

pytestmark = pytest.mark.django_db


def _admit(call: FundedCall, context: BatchContext, **demand: Any) -> str:
    question = call.admit(**demand)
    (answer,) = run(question, context=context)
    assert isinstance(answer, Admitted), answer
    return question.request_id


# ---- snapshots that have been overtaken


def _revoke(call: FundedCall) -> None:
    revoke_key(key_id=call.principal.key_id, reason="leaked")


def _suspend(call: FundedCall) -> None:
    set_customer_status(customer_id=call.customer_id, status=CustomerStatus.SUSPENDED)


@pytest.mark.parametrize("end", [_revoke, _suspend])
def test_a_key_that_was_ended_is_refused_from_the_next_call_on(
    context: BatchContext, end: Callable[[FundedCall], None]
) -> None:
    call = funded_call()
    _admit(call, context)
    end(call)
    (stale,) = run(call.admit(), context=context)
    assert isinstance(stale, Stale)
    assert stale.principal is not None
    assert not stale.principal.is_active(NOON_US)
    (refused,) = run(call.refreshed().admit(), context=context)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, AuthenticationFailed)
    assert_books_agree(call.customer_id)


def test_a_key_expires_by_the_clock_with_no_change_of_its_row(context: BatchContext, clock: FrozenClock) -> None:
    call = funded_call()
    moment = from_us(NOON_US + 60_000_000)
    ApiKey.objects.filter(pk=call.principal.key_id).update(expires_at=moment)
    call = call.refreshed()
    clock.advance(seconds=59.999999)
    _admit(call, context)
    clock.advance(seconds=0.000001)
    (refused,) = run(call.admit(), context=context)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, AuthenticationFailed)


def test_a_call_in_flight_is_settled_although_its_key_was_revoked(context: BatchContext) -> None:
    call = funded_call(credit_nanousd=1_000)
    request_id = _admit(call, context, amount_nanousd=100)
    _revoke(call)
    (settled,) = run(call.settle(request_id, cost_nanousd=40), context=context)
    assert settled == Settled(charged_nanousd=40, available_nanousd=960)
    assert_books_agree(call.customer_id)


def test_a_limit_that_was_changed_counts_from_the_next_call_on(context: BatchContext) -> None:
    call = funded_call()
    _admit(call, context)
    Customer.objects.filter(pk=call.customer_id).update(concurrency=1)
    (stale,) = run(call.admit(), context=context)
    assert isinstance(stale, Stale)
    assert stale.principal == find_principal(call.token)
    (refused,) = run(replace(call, principal=stale.principal).admit(), context=context)
    assert isinstance(refused, Refused)


def test_a_key_that_was_deleted_by_hand_is_stale_without_successor(context: BatchContext) -> None:
    call = funded_call()
    run(context=context)
    ApiKey.objects.filter(pk=call.principal.key_id).delete()
    (stale,) = run(call.admit(), context=context)
    assert stale == Stale(principal=None)


def _publish_price(call: FundedCall) -> None:
    make_price(call.model, effective_from=datetime(2026, 1, 1, tzinfo=UTC))


def _switch_model_off(call: FundedCall) -> None:
    Model.objects.filter(name=call.model).update(is_active=False)


@pytest.mark.parametrize("change", [_publish_price, _switch_model_off, lambda _: make_model()])
def test_a_catalogue_that_has_moved_makes_the_question_stale(
    context: BatchContext, change: Callable[[FundedCall], object]
) -> None:
    call = funded_call()
    _admit(call, context)
    change(call)
    (stale,) = run(call.admit(), context=context)
    assert stale == Stale(principal=call.principal)
    assert context.catalogue.generation == call.refreshed().catalogue_generation
    _admit(call.refreshed(), context)
    assert_books_agree(call.customer_id)


def test_a_revocation_that_was_rolled_back_with_its_batch_is_seen_by_the_next(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = funded_call()
    _admit(call, context)
    _revoke(call)

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(batch, "write_batch", fail)
        with pytest.raises(OperationalError):
            run(call.admit(), context=context)
    (answer,) = run(call.admit(), context=context)
    assert isinstance(answer, Stale)

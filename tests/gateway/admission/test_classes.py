"""Endpoint classes take from rates of their own, and from one purse."""

import pytest

from billing.models import Hold
from common.clock import FrozenClock
from gateway.admission.commands import Admitted, Refused
from keys.limits import Marks
from keys.models import LimitState
from tests.admitting import assert_books_agree, make_context, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db


@pytest.fixture
def call() -> FundedCall:
    return funded_call(
        plan_limits={
            "requests_per_minute": 1,
            "embeddings_requests_per_minute": 2,
            "embeddings_input_tokens_per_minute": 100,
            "concurrency": 3,
        }
    )


def test_classes_do_not_take_from_each_other_and_share_places(call: FundedCall) -> None:
    context = make_context()
    chat = [call.admit(amount_nanousd=1) for _ in range(2)]
    embeddings = [call.admit(amount_nanousd=1)._replace(endpoint_class="embeddings") for _ in range(3)]
    answers = run(*chat, *embeddings, context=context)
    assert [isinstance(answer, Admitted) for answer in answers] == [True, False, True, True, False]
    refused = answers[-1]
    assert isinstance(refused, Refused)
    # All three places are taken, by both classes together.
    assert refused.error.code == "concurrency_limit_exceeded"
    assert_books_agree(call.customer_id)


def test_a_chat_call_touches_one_row_an_owner(call: FundedCall) -> None:
    run(call.admit())
    assert set(LimitState.objects.values_list("owner", flat=True)) == {
        call.principal.customer_owner,
        call.principal.key_owner,
    }


def test_what_another_class_did_not_use_comes_back_to_its_own_rates(call: FundedCall) -> None:
    context = make_context()
    question = call.admit(amount_nanousd=5, input_tokens=60)._replace(endpoint_class="embeddings")
    (admitted,) = run(question, context=context)
    assert isinstance(admitted, Admitted)
    assert admitted.marks == (Marks(60, None), Marks())
    settlement = call.settle(question.request_id, cost_nanousd=2)
    run(settlement._replace(endpoint_class="embeddings", marks=admitted.marks), context=context)
    assert not Hold.objects.exists()
    apart = LimitState.objects.get(owner=f"{call.principal.customer_owner}/embeddings")
    assert (apart.input_tokens_debt, apart.in_flight, apart.total_posted_nanousd) == (0, 0, 0)
    whole = LimitState.objects.get(owner=call.principal.customer_owner)
    assert (whole.input_tokens_taken, whole.in_flight, whole.total_posted_nanousd) == (0, 0, 2)
    assert_books_agree(call.customer_id)


def test_a_total_budget_never_resets() -> None:
    call = funded_call(key_limits={"spend_total_nanousd": 100})
    question = call.admit(amount_nanousd=100)
    run(question)
    run(call.settle(question.request_id, cost_nanousd=100))
    (refused,) = run(call.admit(amount_nanousd=1))
    assert isinstance(refused, Refused)
    assert (refused.error.code, refused.error.status) == ("total_budget_exceeded", 402)
    assert refused.error.retry_after_seconds is None


def test_a_call_of_another_class_that_nobody_settles_expires(call: FundedCall) -> None:
    clock = FrozenClock(NOON_US)
    context = make_context(clock)
    run(call.admit(amount_nanousd=5, lifetime_seconds=60)._replace(endpoint_class="embeddings"), context=context)
    clock.advance(seconds=61)
    context.lease.forget_renewal()
    run(context=context)
    assert not Hold.objects.exists()
    assert LimitState.objects.get(owner=call.principal.customer_owner).in_flight == 0
    assert_books_agree(call.customer_id)

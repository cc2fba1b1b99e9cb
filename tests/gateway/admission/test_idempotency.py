"""A claim is opened with the hold, finished or released with it, and decides before any limit is taken."""

import pytest

from billing.accounts import get_balance
from billing.models import Hold
from common.clock import FrozenClock
from gateway.admission.commands import Admit, Admitted, Answer, Refused, Replayed
from gateway.admission.context import BatchContext
from gateway.errors import IdempotencyAnswerLost, IdempotencyInFlight, IdempotencyKeyReused
from gateway.idempotency import KEEP_US, Claim, StoredAnswer
from gateway.models import IdempotencyClaim
from tests.admitting import assert_books_agree, run
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db

CLAIM = Claim("key-1", "fingerprint")
ANSWER = StoredAnswer("{}", b"answer")


def _question(call: FundedCall, claim: Claim = CLAIM, **demand: int) -> Admit:
    return call.admit(**demand)._replace(claim=claim)  # type: ignore[arg-type]


def _one(answers: list[Answer]) -> Answer:
    (answer,) = answers
    return answer


def _finish(call: FundedCall, request_id: str, context: BatchContext, answer: StoredAnswer | None = ANSWER) -> None:
    run(call.settle(request_id, cost_nanousd=100)._replace(has_claim=True, answer=answer), context=context)


def test_a_repeat_gets_the_answer_and_takes_nothing(context: BatchContext) -> None:
    call = funded_call(credit_nanousd=1_000, key_limits={"requests_per_minute": 1})
    first = _question(call, amount_nanousd=400)
    assert isinstance(_one(run(first, context=context)), Admitted)
    _finish(call, first.request_id, context)
    assert _one(run(_question(call, amount_nanousd=10**9), context=context)) == Replayed(
        answer=ANSWER, available_nanousd=900
    )
    assert_books_agree(call.customer_id)


def test_of_two_in_one_batch_one_is_admitted(context: BatchContext) -> None:
    call = funded_call()
    first, second = run(_question(call), _question(call), context=context)
    assert isinstance(first, Admitted)
    assert isinstance(second, Refused)
    assert isinstance(second.error, IdempotencyInFlight)
    assert second.error.details["first_request_id"] == first.request_id
    assert Hold.objects.filter(account__customer_id=call.customer_id).count() == 1


def test_another_call_under_the_same_key_is_refused(context: BatchContext) -> None:
    call = funded_call()
    run(_question(call), context=context)
    answer = _one(run(_question(call, Claim("key-1", "another")), context=context))
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, IdempotencyKeyReused)


def test_keys_belong_to_their_customers(context: BatchContext) -> None:
    for call in (funded_call(), funded_call()):
        assert isinstance(_one(run(_question(call.refreshed()), context=context)), Admitted)


def test_a_call_that_came_to_nothing_frees_its_key(context: BatchContext) -> None:
    call = funded_call()
    first = _question(call)
    run(first, context=context)
    _finish(call, first.request_id, context, answer=None)
    assert isinstance(_one(run(_question(call), context=context)), Admitted)


def test_a_repeat_in_the_batch_that_settles_the_first_call_has_its_answer(context: BatchContext) -> None:
    call = funded_call()
    first = _question(call)
    run(first, context=context)
    settle = call.settle(first.request_id, cost_nanousd=100)
    _, again = run(settle._replace(has_claim=True, answer=ANSWER), _question(call), context=context)
    assert isinstance(again, Replayed)


def test_a_repeat_in_the_batch_that_frees_the_key_is_admitted(context: BatchContext) -> None:
    call = funded_call()
    first = _question(call)
    run(first, context=context)
    settle = call.settle(first.request_id, cost_nanousd=0)
    _, again = run(settle._replace(has_claim=True), _question(call), context=context)
    assert isinstance(again, Admitted)


def test_a_refused_call_leaves_its_key_free(context: BatchContext) -> None:
    call = funded_call(credit_nanousd=10)
    assert isinstance(_one(run(_question(call, amount_nanousd=11), context=context)), Refused)
    assert not IdempotencyClaim.objects.exists()
    assert isinstance(_one(run(_question(call, amount_nanousd=10), context=context)), Admitted)


def test_a_call_whose_process_died_frees_its_key_with_its_hold(context: BatchContext, clock: FrozenClock) -> None:
    call = funded_call(credit_nanousd=1_000)
    run(_question(call, amount_nanousd=1_000, lifetime_seconds=60), context=context)
    clock.advance(seconds=60)
    assert isinstance(_one(run(_question(call, amount_nanousd=1_000), context=context)), Admitted)
    assert Hold.objects.filter(account__customer_id=call.customer_id).count() == 1
    assert_books_agree(call.customer_id)


def test_an_answer_too_large_to_keep_is_not_computed_again(context: BatchContext) -> None:
    call = funded_call()
    first = _question(call)
    run(first, context=context)
    _finish(call, first.request_id, context, answer=StoredAnswer("{}", None))
    answer = _one(run(_question(call), context=context))
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, IdempotencyAnswerLost)


def test_a_day_later_the_key_is_free_and_its_row_is_pruned(context: BatchContext, clock: FrozenClock) -> None:
    call = funded_call()
    first, other = _question(call), _question(call, Claim("key-2", "f"))
    run(first, other, context=context)
    _finish(call, first.request_id, context)
    _finish(call, other.request_id, context)
    clock.advance(seconds=KEEP_US // 1_000_000 - 1)
    assert isinstance(_one(run(_question(call), context=context)), Replayed)
    clock.advance(seconds=1)
    assert isinstance(_one(run(_question(call), context=context)), Admitted)
    clock.advance(seconds=60)
    run(context=context)
    assert [claim.key for claim in IdempotencyClaim.objects.all()] == ["key-1"]


def test_a_settlement_that_is_repeated_does_not_touch_a_later_claim(context: BatchContext) -> None:
    call = funded_call(credit_nanousd=1_000)
    first = _question(call, amount_nanousd=100)
    run(first, context=context)
    _finish(call, first.request_id, context, answer=None)
    second = _question(call, amount_nanousd=100)
    run(second, context=context)
    _finish(call, first.request_id, context)
    assert IdempotencyClaim.objects.get().request_id == second.request_id
    assert IdempotencyClaim.objects.get().receipt is None
    assert get_balance(call.customer_id).held_nanousd == 100

"""A reused answer is admitted and booked in one: nothing stays open, and it is held to what any call is held to."""

from typing import Any

import pytest

from billing.models import CacheState, Hold, Transfer, TransferKind, UsageRecord
from billing.rates import Processing
from billing.reconciliation import reconcile
from billing.reuse import cost_of_reuse
from billing.tokens import TokenCounts
from common.clock import from_us
from gateway.admission.commands import Refused, Replayed, Reuse, Reused, Stale
from gateway.admission.context import BatchContext
from gateway.idempotency import Claim, StoredAnswer
from keys.issuing import revoke_key
from tests.admitting import assert_books_agree, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db

TOKENS = TokenCounts(input=1_000, output=500)
# At 1 and 4 USD per million tokens.
FULL_NANOUSD = 3_000_000
ANSWER = StoredAnswer("{}", b"answer")


def reuse(call: FundedCall, *, percent: int = 10, claim: Claim | None = None, **admit: Any) -> Reuse:
    cost = cost_of_reuse(call.price.table, TOKENS, Processing.STANDARD, percent=percent)
    question = call.admit(amount_nanousd=cost, input_tokens=0, output_tokens=0)._replace(claim=claim, **admit)
    usage = call.settle(question.request_id, cost_nanousd=cost, tokens=TOKENS).usage
    usage = usage._replace(cache=CacheState.HIT.value, reused_percent=percent, reused_bytes=9)
    return Reuse(admit=question, usage=usage, answer=None if claim is None else ANSWER)


@pytest.mark.parametrize(("percent", "charged"), [(0, 0), (10, FULL_NANOUSD // 10), (100, FULL_NANOUSD)])
def test_it_costs_its_part_and_leaves_nothing_open(context: BatchContext, percent: int, charged: int) -> None:
    call = funded_call(credit_nanousd=FULL_NANOUSD)
    question = reuse(call, percent=percent)
    (answer,) = run(question, context=context)
    assert isinstance(answer, Reused)
    assert (answer.charged_nanousd, answer.available_nanousd) == (charged, FULL_NANOUSD - charged)
    record = UsageRecord.objects.get(request_id=question.admit.request_id)
    assert (record.charged_nanousd, record.provider_cost_nanousd) == (charged, 0)
    assert record.started_at == record.settled_at == from_us(NOON_US)
    moved = Transfer.objects.filter(request_id=question.admit.request_id)
    assert [row.kind for row in moved] == ([TransferKind.DIRECT] if charged else [])
    assert not Hold.objects.exists()
    assert_books_agree(call.customer_id)
    assert all(check.is_clean for check in reconcile().checks)


def test_it_takes_a_request_and_no_tokens(context: BatchContext) -> None:
    call = funded_call(key_limits={"requests_per_minute": 2, "output_tokens_per_minute": 100})
    answers = run(*(reuse(call) for _ in range(3)), context=context)
    assert [type(answer) for answer in answers] == [Reused, Reused, Refused]
    assert_books_agree(call.customer_id)


@pytest.mark.parametrize(
    "bound",
    [{"credit_nanousd": FULL_NANOUSD // 10}, {"key_limits": {"spend_per_day_nanousd": FULL_NANOUSD // 10}}],
)
def test_budget_and_balance_bound_what_it_costs(context: BatchContext, bound: dict[str, Any]) -> None:
    call = funded_call(**bound)
    answers = run(reuse(call), reuse(call), context=context)
    assert [type(answer) for answer in answers] == [Reused, Refused]
    # For nothing there is always enough.
    (free,) = run(reuse(call, percent=0), context=context)
    assert isinstance(free, Reused)
    assert_books_agree(call.customer_id)


def test_a_revoked_key_has_no_more_answers(context: BatchContext) -> None:
    call = funded_call()
    run(reuse(call), context=context)
    revoke_key(key_id=call.principal.key_id, reason="for a test")
    (answer,) = run(reuse(call), context=context)
    assert isinstance(answer, Stale)
    (answer,) = run(reuse(call.refreshed()), context=context)
    assert isinstance(answer, Refused)
    assert UsageRecord.objects.filter(customer_id=call.customer_id).count() == 1


def test_its_claim_is_finished_at_once(context: BatchContext) -> None:
    call, claim = funded_call(), Claim("key-1", "fingerprint")
    first, second = run(reuse(call, claim=claim), reuse(call, claim=claim), context=context)
    assert isinstance(first, Reused)
    assert isinstance(second, Replayed)
    (later,) = run(call.admit()._replace(claim=claim), context=context)
    assert isinstance(later, Replayed)
    assert later.answer == ANSWER
    assert UsageRecord.objects.get(customer_id=call.customer_id).started_at.timestamp() * 1_000_000 == NOON_US

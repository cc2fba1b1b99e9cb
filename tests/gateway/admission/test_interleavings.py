"""Random interleavings of hold, post, void and expiry against a simple model, on the real database."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.accounts import get_balance
from billing.models import Account, Hold, Transfer, TransferKind
from common.clock import FrozenClock
from gateway.admission.commands import (
    Admit,
    Admitted,
    Answer,
    NoteProgress,
    Refused,
    Settled,
)
from gateway.admission.context import BatchContext
from keys.models import Customer
from tests.admitting import assert_books_agree, make_context, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, find_principal, funded_call, make_key, make_model

pytestmark = pytest.mark.django_db


def _kinds(request_id: str) -> list[str]:
    return list(Transfer.objects.filter(request_id=request_id).order_by("pk").values_list("kind", flat=True))


def _admit(call: FundedCall, context: BatchContext, **demand: Any) -> str:
    question = call.admit(**demand)
    (answer,) = run(question, context=context)
    assert isinstance(answer, Admitted), answer
    return question.request_id


# ---- random interleavings against a simple model


@dataclass
class _Expected:
    """What must be true of one customer: a list of open holds, and what was charged of each request."""

    credit: int
    open: dict[str, tuple[int, int]] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        return self.credit - sum(self.charged.values()) - sum(amount for amount, _ in self.open.values())


operations = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "settle", "settle again", "progress"]),
        st.integers(min_value=0, max_value=400),
        st.integers(min_value=0, max_value=3),
    ),
    min_size=1,
    max_size=6,
)
batches = st.lists(st.tuples(st.sampled_from([0, 1, 20, 61]), operations), min_size=1, max_size=8)


@hypothesis_settings(max_examples=40)
@given(credit=st.integers(min_value=0, max_value=1_500), concurrency=st.none() | st.integers(0, 4), batches=batches)
def test_no_interleaving_of_hold_post_void_and_expiry_unbalances_the_books(
    credit: int, concurrency: int | None, batches: list[tuple[int, list[tuple[str, int, int]]]]
) -> None:
    clock = FrozenClock(NOON_US)
    context = make_context(clock)
    # A price of nothing: an expiry charges nothing, and the model need not know about progress.
    model = make_model(input_usd="0", output_usd="0").name
    call = funded_call(credit_nanousd=credit, model=model, key_limits={"concurrency": concurrency})
    Account.objects.get_or_create(
        code=f"customer:{call.customer_id}", defaults={"kind": "customer", "customer_id": call.customer_id}
    )
    expected = _Expected(credit=credit)
    for pause_seconds, chosen in batches:
        clock.advance(seconds=pause_seconds)
        _expire_in_model(expected, clock.now_us())
        commands = [_command(call, expected, *operation) for operation in chosen]
        answers = run(*commands, context=context)
        # Settlements of a batch come before its admissions.
        for is_admission in (False, True):
            for command, answer in zip(commands, answers, strict=True):
                if isinstance(command, Admit) == is_admission:
                    _apply(expected, command, answer, clock.now_us(), concurrency)
        assert get_balance(call.customer_id).available_nanousd == expected.available >= 0
        assert set(expected.open) == set(
            Hold.objects.filter(account__customer_id=call.customer_id).values_list("request_id", flat=True)
        )
        assert_books_agree(call.customer_id)
    clock.advance(seconds=10_000)
    run(context=context)
    _expire_in_model(expected, clock.now_us())
    assert get_balance(call.customer_id).held_nanousd == 0
    assert get_balance(call.customer_id).available_nanousd == expected.available
    assert_books_agree(call.customer_id)
    for request_id, amount in expected.held.items():
        # Every hold of money has been resolved, and only once.
        assert len([kind for kind in _kinds(request_id) if kind not in ("pending", "direct")]) == (1 if amount else 0)


def _command(call: FundedCall, expected: _Expected, name: str, amount: int, pick: int) -> Any:
    if name == "admit":
        return call.admit(amount_nanousd=amount, lifetime_seconds=(30, 60, 90, 600)[pick])
    known = list(expected.open) if name == "settle" else list(expected.held)
    request_id = known[pick % len(known)] if known else "req_unknown_" + str(call.customer_id)
    if name == "progress":
        return NoteProgress(request_id=request_id, output_tokens=amount)
    return call.settle(request_id, cost_nanousd=amount, started_us=NOON_US)


def _expire_in_model(expected: _Expected, now_us: int) -> None:
    expected.open = {r: (amount, until) for r, (amount, until) in expected.open.items() if until > now_us}


def _apply(expected: _Expected, command: Any, answer: Answer, now_us: int, concurrency: int | None) -> None:
    if isinstance(command, Admit):
        has_money = command.amount_nanousd == 0 or command.amount_nanousd <= expected.available
        has_place = concurrency is None or len(expected.open) < concurrency
        assert isinstance(answer, Admitted) == (has_money and has_place)
        if isinstance(answer, Admitted):
            expected.open[command.request_id] = (command.amount_nanousd, now_us + command.lifetime_us)
            expected.held[command.request_id] = command.amount_nanousd
    elif isinstance(answer, Settled):
        request_id, cost = command.usage.request_id, command.usage.cost_nanousd
        if request_id in expected.open:
            amount, _ = expected.open.pop(request_id)
            expected.charged[request_id] = min(cost, amount)
        elif request_id not in expected.charged:
            # Late: what is owed at most, as far as the money goes.
            expected.charged[request_id] = max(0, min(cost, expected.held.get(request_id, 0), expected.available))
        assert answer.charged_nanousd == expected.charged[request_id]


def test_transfers_of_calls_never_leave_the_two_accounts(context: BatchContext) -> None:
    call = funded_call()
    other = funded_call(model=call.model)
    for one in (call, other):
        run(one.settle(_admit(one, context), cost_nanousd=5), context=context)
    revenue = Account.objects.get(code="platform:revenue")
    for customer_id in (call.customer_id, other.customer_id):
        account = Account.objects.get(customer_id=customer_id)
        made = Transfer.objects.exclude(request_id=None).filter(debit_account=account)
        assert set(made.values_list("kind", "credit_account_id")) == {
            (TransferKind.PENDING, revenue.pk),
            (TransferKind.POST, revenue.pk),
        }
        assert_books_agree(customer_id)
    assert connection.in_atomic_block


def test_keys_of_one_customer_share_its_limits_and_have_their_own(context: BatchContext) -> None:
    call = funded_call(plan_limits={"concurrency": 3}, key_limits={"concurrency": 2})
    second = make_key(Customer.objects.get(pk=call.customer_id))
    call = call.refreshed()
    other = replace(call, token=second.token, principal=find_principal(second.token))
    answers = run(*(c.admit() for c in (call, call, call, other, other)), context=context)
    assert [type(answer) for answer in answers] == [Admitted, Admitted, Refused, Admitted, Refused]
    assert_books_agree(call.customer_id)

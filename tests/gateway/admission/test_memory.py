"""The clerk skips reading what nobody else has changed; whatever changes meanwhile, by whomever, it sees."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections

from billing.accounts import get_balance
from billing.ledger import grant_credit
from gateway.admission import writes
from gateway.admission.commands import Admitted, Refused
from gateway.admission.context import BatchContext
from keys.models import LimitState
from tests.admitting import assert_books_agree, make_context, run
from tests.factories import FundedCall, funded_call


def _hold(call: FundedCall, context: BatchContext, amount_nanousd: int) -> Admitted | Refused:
    (answer,) = run(call.admit(amount_nanousd=amount_nanousd), context=context)
    assert isinstance(answer, Admitted | Refused)
    return answer


def _grant(call: FundedCall, amount_nanousd: int) -> None:
    grant_credit(customer_id=call.customer_id, amount_nanousd=amount_nanousd, reason="more", author="test")


def _in_another_connection(work: Callable[[], object]) -> None:
    """Run `work` on a connection of its own and commit it."""

    def run_and_close() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run_and_close)
    thread.start()
    thread.join()


@pytest.mark.django_db
def test_repeated_batches_read_neither_balances_nor_counters_again(context: BatchContext) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no sign of others' writes: every batch reads")
    call = funded_call(credit_nanousd=1_000)
    _hold(call, context, 100)
    seen: list[str] = []
    connection.connection.set_trace_callback(seen.append)
    try:
        _hold(call, context, 100)
    finally:
        connection.connection.set_trace_callback(None)
    read = [statement for statement in seen if statement.startswith("SELECT")]
    assert not [s for s in read if "billing_account" in s or "keys_limitstate" in s or "common_generation" in s], read
    assert_books_agree(call.customer_id)


@pytest.mark.django_db
def test_a_write_on_the_clerks_own_connection_is_seen(context: BatchContext) -> None:
    call = funded_call(credit_nanousd=1_000)
    assert isinstance(_hold(call, context, 1_000), Admitted)
    _grant(call, 500)
    answer = _hold(call, context, 500)
    assert isinstance(answer, Admitted)
    assert answer.available_nanousd == 0


@pytest.mark.django_db(transaction=True)
def test_a_write_on_another_connection_is_seen() -> None:
    context = make_context()
    call = funded_call(credit_nanousd=1_000)
    assert isinstance(_hold(call, context, 1_000), Admitted)
    assert isinstance(_hold(call, context, 500), Refused)
    _in_another_connection(
        lambda: grant_credit(customer_id=call.customer_id, amount_nanousd=500, reason="more", author="test")
    )
    assert isinstance(_hold(call, context, 500), Admitted)
    assert isinstance(_hold(call, context, 1), Refused)
    assert_books_agree(call.customer_id)


@pytest.mark.django_db(transaction=True)
def test_two_clerks_that_take_turns_never_decide_on_what_they_remember() -> None:
    call = funded_call(credit_nanousd=1_000, key_limits={"concurrency": 6})
    contexts = [make_context(), make_context()]
    answers: list[Admitted | Refused] = []
    for turn in range(10):
        if turn % 2:
            _in_another_connection(lambda: answers.append(_hold(call, contexts[1], 100)))
        else:
            answers.append(_hold(call, contexts[0], 100))
    assert [type(answer) for answer in answers] == [Admitted] * 6 + [Refused] * 4
    assert get_balance(call.customer_id).held_nanousd == 600
    assert LimitState.objects.get(owner=call.principal.key_owner).in_flight == 6
    assert_books_agree(call.customer_id)


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_failed_is_forgotten(context: BatchContext, monkeypatch: pytest.MonkeyPatch) -> None:
    call = funded_call(credit_nanousd=1_000)
    _hold(call, context, 100)
    monkeypatch.setattr(writes, "write_counters", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _hold(call, context, 900)
    monkeypatch.undo()
    answer = _hold(call, context, 900)
    assert isinstance(answer, Admitted)
    assert answer.available_nanousd == 0
    assert_books_agree(call.customer_id)

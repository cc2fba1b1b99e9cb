"""One transaction of many decisions: every hold is resolved once, and the counters are what the rows add up to."""

from datetime import datetime
from typing import Any

import pytest
from django.db import OperationalError, connection

from billing.accounts import get_balance
from billing.models import Hold, Transfer, UsageRecord, UsageSource, UsageStatus
from billing.tokens import TOKEN_CLASSES, TokenCounts
from common.clock import FrozenClock, from_us
from common.sql import DurableTransaction, Sql
from gateway.admission import batch, writes
from gateway.admission.commands import (
    Admitted,
    FindPrincipal,
    FoundPrincipal,
    Noted,
    NoteProgress,
    Refused,
    Settled,
    Stale,
)
from gateway.admission.context import BatchContext
from gateway.models import Worker
from keys.models import ApiKey, LimitState
from keys.pinning import pin_new_keys
from tests.admitting import assert_books_agree, make_context, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db


def _records(request_id: str) -> list[tuple[int, str, int, str]]:
    rows = UsageRecord.objects.filter(request_id=request_id).order_by("sequence")
    return list(rows.values_list("sequence", "status", "charged_nanousd", "flags"))


def _kinds(request_id: str) -> list[str]:
    return list(Transfer.objects.filter(request_id=request_id).order_by("pk").values_list("kind", flat=True))


def _admit(call: FundedCall, context: BatchContext, **demand: Any) -> str:
    question = call.admit(**demand)
    (answer,) = run(question, context=context)
    assert isinstance(answer, Admitted), answer
    return question.request_id


# ---- the way of one call


def test_a_call_is_held_then_posted_and_recorded(context: BatchContext, clock: FrozenClock) -> None:
    call = funded_call(credit_nanousd=1_000)
    request_id = _admit(call, context, amount_nanousd=400)
    hold = Hold.objects.get(request_id=request_id)
    assert (hold.amount_nanousd, hold.created_us, hold.expires_us) == (400, NOON_US, NOON_US + 600_000_000)
    assert get_balance(call.customer_id).available_nanousd == 600
    assert_books_agree(call.customer_id)
    clock.advance(seconds=3)
    tokens = TokenCounts(**{name: number for number, name in enumerate(TOKEN_CLASSES, start=1)})
    (settled,) = run(call.settle(request_id, cost_nanousd=150, tokens=tokens, started_us=NOON_US), context=context)
    assert settled == Settled(charged_nanousd=150, available_nanousd=850)
    assert _kinds(request_id) == ["pending", "post"]
    record = UsageRecord.objects.get(request_id=request_id)
    assert (record.started_at, record.settled_at) == (from_us(NOON_US), from_us(NOON_US + 3_000_000))
    assert [getattr(record, f"{name}_tokens") for name in TOKEN_CLASSES] == list(range(1, 10))
    assert (record.cost_nanousd, record.charged_nanousd, record.source) == (150, 150, "provider")
    assert not Hold.objects.filter(request_id=request_id).exists()
    assert_books_agree(call.customer_id)


def test_a_call_without_cost_is_voided(context: BatchContext) -> None:
    call = funded_call()
    request_id = _admit(call, context)
    run(call.settle(request_id, cost_nanousd=0, status=UsageStatus.FAILED), context=context)
    assert _kinds(request_id) == ["pending", "void"]
    assert _records(request_id) == [(0, "failed", 0, "")]
    assert_books_agree(call.customer_id)


def test_a_free_call_has_a_place_in_the_limits_and_no_transfer(context: BatchContext) -> None:
    call = funded_call(credit_nanousd=0, plan_limits={"concurrency": 1})
    request_id = _admit(call, context, amount_nanousd=0)
    (refused,) = run(call.admit(amount_nanousd=0), context=context)
    assert isinstance(refused, Refused)
    run(call.settle(request_id, cost_nanousd=0), context=context)
    assert _kinds(request_id) == []
    assert _records(request_id) == [(0, "completed", 0, "")]
    _admit(call, context, amount_nanousd=0)
    assert_books_agree(call.customer_id)


def test_a_batch_answers_in_order_and_settles_before_it_admits(context: BatchContext) -> None:
    call = funded_call(credit_nanousd=100)
    first = _admit(call, context, amount_nanousd=100)
    answers = run(
        call.admit(amount_nanousd=60),
        FindPrincipal(hashes=("0" * 64,)),
        call.settle(first, cost_nanousd=40),
        NoteProgress(request_id=first, output_tokens=1),
        call.admit(amount_nanousd=60),
        context=context,
    )
    assert [type(answer) for answer in answers] == [Admitted, FoundPrincipal, Settled, Noted, Refused]
    assert answers[1] == FoundPrincipal(principal=None)
    assert_books_agree(call.customer_id)


def test_two_calls_of_one_batch_cannot_both_take_the_last_money_or_place(context: BatchContext) -> None:
    poor = funded_call(credit_nanousd=100)
    busy = funded_call(key_limits={"concurrency": 1}, model=poor.model)
    answers = run(*(c.admit(amount_nanousd=100) for c in (poor, busy, poor, busy)), context=context)
    assert [type(answer) for answer in answers] == [Admitted, Admitted, Refused, Refused]


def test_a_key_is_found_by_any_of_its_hashes(context: BatchContext) -> None:
    call = funded_call()
    (found,) = run(FindPrincipal(hashes=("0" * 64, str(call.principal.row[1]))), context=context)
    assert found == FoundPrincipal(principal=call.principal)


def test_the_last_use_of_a_key_is_noted_once_a_minute(context: BatchContext, clock: FrozenClock) -> None:
    call = funded_call()

    def used_at() -> datetime | None:
        return ApiKey.objects.get(pk=call.principal.key_id).last_used_at

    run(call.admit()._replace(client_address="192.0.2.7"), context=context)
    assert used_at() == from_us(NOON_US)
    assert ApiKey.objects.get(pk=call.principal.key_id).last_used_address == "192.0.2.7"
    clock.advance(seconds=59)
    _admit(call, context)
    assert used_at() == from_us(NOON_US)
    clock.advance(seconds=1)
    _admit(call, context)
    assert used_at() == from_us(NOON_US + 60_000_000)


# ---- exactly once


def test_the_first_admitted_call_pins_its_key_once_and_a_refused_one_does_not(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[list[int]] = []

    def note(sql: Sql, key_ids: list[int], api_version: str) -> None:
        pinned.append(key_ids)
        pin_new_keys(sql, key_ids, api_version)

    monkeypatch.setattr(writes, "pin_new_keys", note)
    call = funded_call(credit_nanousd=1_000)
    key = ApiKey.objects.get(pk=call.principal.key_id)
    (refused,) = run(call.admit(amount_nanousd=2_000)._replace(pin="2026-11-21"), context=context)
    assert isinstance(refused, Refused)
    run(*[call.admit(amount_nanousd=1)._replace(pin="2026-11-21") for _ in range(3)], context=context)
    assert pinned == [[key.pk]]
    key.refresh_from_db()
    assert key.api_version == "2026-11-21"
    # The snapshot is outdated by its own pin: the next question is asked anew, and pins nothing.
    (stale,) = run(call.admit()._replace(pin="2030-01-01"), context=context)
    assert isinstance(stale, Stale)
    assert stale.principal is not None
    assert stale.principal.api_version == "2026-11-21"
    pin_new_keys(Sql(connection), [key.pk], "2030-01-01")
    key.refresh_from_db()
    assert key.api_version == "2026-11-21"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("second_cost", [150, 0, 900])
def test_a_second_settlement_changes_nothing_and_gets_the_first_answer(
    context: BatchContext, together: bool, second_cost: int
) -> None:
    call = funded_call(credit_nanousd=1_000)
    request_id = _admit(call, context, amount_nanousd=400)
    settlements = [call.settle(request_id, cost_nanousd=cost) for cost in (150, second_cost, second_cost)]
    answers = run(*settlements, context=context) if together else [run(s, context=context)[0] for s in settlements]
    assert answers == [Settled(charged_nanousd=150, available_nanousd=850)] * 3
    assert _kinds(request_id) == ["pending", "post"]
    assert _records(request_id) == [(0, "completed", 150, "")]
    assert_books_agree(call.customer_id)


def test_a_commit_that_got_through_although_its_answer_did_not_is_not_repeated(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = funded_call(credit_nanousd=1_000)
    request_id = _admit(call, context, amount_nanousd=400)
    settlement = call.settle(request_id, cost_nanousd=150)
    admission = call.admit(amount_nanousd=100)
    with monkeypatch.context() as patch:
        patch.setattr(batch, "DurableTransaction", _LosesTheAnswerOfItsCommit)
        with pytest.raises(OperationalError):
            run(settlement, admission, context=context)
    assert Hold.objects.filter(request_id=admission.request_id).exists()
    # The clerk keeps the settlement and runs it again; the admission was refused to its caller.
    (again,) = run(settlement, context=context)
    assert again == Settled(charged_nanousd=150, available_nanousd=850)
    assert _records(request_id) == [(0, "completed", 150, "")]
    assert _kinds(admission.request_id) == ["pending", "expire"]
    assert_books_agree(call.customer_id)


class _LosesTheAnswerOfItsCommit(DurableTransaction):
    """Commits, and then fails as a connection does that breaks at that moment."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        raise OperationalError("the connection is lost")


def test_an_admission_that_was_rolled_back_leaves_nothing(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = funded_call(credit_nanousd=1_000)
    request_id = _admit(call, context, amount_nanousd=100)

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(writes, "write_counters", fail)
        with pytest.raises(OperationalError):
            run(call.admit(), call.settle(request_id), context=context)
    assert context.abandoned == {}
    assert Hold.objects.count() == 1
    assert_books_agree(call.customer_id)
    run(call.settle(request_id, cost_nanousd=7), context=context)
    assert _records(request_id) == [(0, "completed", 7, "")]
    assert_books_agree(call.customer_id)


def test_a_hold_that_its_caller_abandoned_goes_with_the_next_batch(context: BatchContext, clock: FrozenClock) -> None:
    call = funded_call(credit_nanousd=100)
    request_id = _admit(call, context, amount_nanousd=100)
    context.abandon(request_id)
    context.abandon("req_never_arrived")
    (answer,) = run(call.admit(amount_nanousd=100), context=context)
    assert isinstance(answer, Admitted)
    assert _kinds(request_id) == ["pending", "expire"]
    clock.advance(seconds=60)
    run(context=context)
    assert context.abandoned == {}
    assert_books_agree(call.customer_id)


# ---- expiry


def test_a_hold_expires_at_its_very_moment_and_frees_money_and_places(
    context: BatchContext, clock: FrozenClock
) -> None:
    call = funded_call(credit_nanousd=100, plan_limits={"concurrency": 1})
    request_id = _admit(call, context, amount_nanousd=100, lifetime_seconds=60)
    clock.advance(seconds=59.999999)
    (early,) = run(call.admit(amount_nanousd=100), context=context)
    assert isinstance(early, Refused)
    clock.advance(seconds=0.000001)
    (late,) = run(call.admit(amount_nanousd=100), context=context)
    assert isinstance(late, Admitted)
    assert _kinds(request_id) == ["pending", "expire"]
    assert _records(request_id) == [(0, "lost", 0, "server_died")]
    assert_books_agree(call.customer_id)


def test_an_expired_stream_is_charged_for_what_it_is_known_to_have_relayed(
    context: BatchContext, clock: FrozenClock
) -> None:
    call = funded_call(credit_nanousd=1_000_000)
    request_id = _admit(call, context, amount_nanousd=1_000, input_tokens=100, output_tokens=200, lifetime_seconds=60)
    run(NoteProgress(request_id=request_id, output_tokens=20), context=context)
    run(NoteProgress(request_id=request_id, output_tokens=50), context=context)
    clock.advance(seconds=60)
    run(context=context)
    # 100 tokens at 1 USD and 50 at 4 USD a million: 300,000 nano-USD, of which the hold covers 1,000.
    record = UsageRecord.objects.get(request_id=request_id)
    assert (record.status, record.source) == (UsageStatus.LOST, UsageSource.ESTIMATED)
    assert (record.input_tokens, record.output_tokens) == (100, 50)
    assert (record.cost_nanousd, record.charged_nanousd) == (300_000, 1_000)
    assert _kinds(request_id) == ["pending", "post"]
    assert_books_agree(call.customer_id)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("progress", "cost", "charged_at_expiry", "charged_late"),
    [
        (0, 300_000, 0, 300_000),
        (50, 300_000, 300_000, 0),
        (50, 400_000, 300_000, 100_000),
        (50, 10**9, 300_000, 200_000),
    ],
)
def test_a_settlement_after_the_expiry_takes_only_what_is_still_owed(
    *,
    context: BatchContext,
    clock: FrozenClock,
    together: bool,
    progress: int,
    cost: int,
    charged_at_expiry: int,
    charged_late: int,
) -> None:
    call = funded_call(credit_nanousd=10_000_000)
    request_id = _admit(call, context, amount_nanousd=500_000, input_tokens=100, output_tokens=200, lifetime_seconds=60)
    run(NoteProgress(request_id=request_id, output_tokens=progress), context=context)
    clock.advance(seconds=61)
    settlement = call.settle(request_id, cost_nanousd=cost, started_us=NOON_US)
    if not together:
        run(context=context)
    answers = [run(settlement, settlement, context=context), run(settlement, context=context)]
    total = charged_at_expiry + charged_late
    assert [a.charged_nanousd for batch_answers in answers for a in batch_answers if isinstance(a, Settled)] == [
        charged_late,
        total,
        total,
    ]
    assert _records(request_id) == [
        (0, "lost", charged_at_expiry, "server_died"),
        (1, "completed", charged_late, "late_settlement"),
    ]
    assert get_balance(call.customer_id).available_nanousd == 10_000_000 - total
    assert_books_agree(call.customer_id)


def test_a_late_settlement_takes_no_money_that_others_hold(context: BatchContext, clock: FrozenClock) -> None:
    call = funded_call(credit_nanousd=100)
    lost = _admit(call, context, amount_nanousd=100, lifetime_seconds=60)
    clock.advance(seconds=60)
    _admit(call, context, amount_nanousd=70)
    (settled,) = run(call.settle(lost, cost_nanousd=100, started_us=NOON_US), context=context)
    assert settled == Settled(charged_nanousd=30, available_nanousd=0)
    assert_books_agree(call.customer_id)


def test_a_settlement_of_a_call_that_was_never_admitted_is_recorded_and_charges_nothing(context: BatchContext) -> None:
    call = funded_call(credit_nanousd=100)
    (settled,) = run(call.settle("req_unknown", cost_nanousd=50, started_us=NOON_US), context=context)
    assert settled == Settled(charged_nanousd=0, available_nanousd=100)
    assert _records("req_unknown") == [(1, "completed", 0, "late_settlement")]
    assert_books_agree(call.customer_id)


def test_the_holds_of_a_dead_process_expire_with_its_lease_and_the_process_is_forgotten(clock: FrozenClock) -> None:
    dying, living = make_context(clock, lease_seconds=15), make_context(clock, lease_seconds=15)
    call = funded_call(credit_nanousd=200)
    lost = _admit(call, dying, amount_nanousd=100)
    kept = _admit(call, living, amount_nanousd=100)
    clock.advance(seconds=14)
    run(context=living)
    assert Hold.objects.count() == 2
    clock.advance(seconds=1)
    run(context=living)
    assert set(Hold.objects.values_list("request_id", flat=True)) == {kept}
    assert _kinds(lost) == ["pending", "expire"]
    assert set(Worker.objects.values_list("id", flat=True)) == {living.lease.id}
    assert_books_agree(call.customer_id)


def test_a_process_that_was_thought_dead_comes_back_under_another_name(clock: FrozenClock) -> None:
    asleep, living = make_context(clock), make_context(clock)
    call = funded_call(credit_nanousd=1_000)
    request_id = _admit(call, asleep, amount_nanousd=100)
    old_id = asleep.lease.id
    clock.advance(seconds=15)
    run(context=living)
    (settled,) = run(call.settle(request_id, cost_nanousd=40, started_us=NOON_US), context=asleep)
    assert isinstance(settled, Settled)
    assert settled.charged_nanousd == 40
    assert asleep.lease.id not in (old_id, living.lease.id)
    fresh = _admit(call, asleep, amount_nanousd=100)
    assert Hold.objects.get(request_id=fresh).worker_id == asleep.lease.id
    assert_books_agree(call.customer_id)


def test_thousands_of_dead_holds_are_worked_off_over_several_batches(
    clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_EXPIRY_LIMIT", 10)
    dying, living = make_context(clock), make_context(clock)
    call = funded_call()
    run(*(call.admit() for _ in range(25)), context=dying)
    clock.advance(seconds=15)
    left = []
    for _ in range(4):
        run(context=living)
        left.append(Hold.objects.count())
    assert left == [15, 5, 0, 0]
    assert not Worker.objects.filter(pk=dying.lease.id).exists()
    assert_books_agree(call.customer_id)


def test_a_hold_whose_draft_cannot_be_read_is_released_and_stops_nobody(
    context: BatchContext, clock: FrozenClock
) -> None:
    call = funded_call(credit_nanousd=100)
    other = funded_call(model=call.model)
    question = call.admit(amount_nanousd=100, lifetime_seconds=60)._replace(draft='{"from": "another version"}')
    run(question, context=context)
    clock.advance(seconds=60)
    answers = run(other.admit(), call.admit(amount_nanousd=100), context=context)
    assert [type(answer) for answer in answers] == [Admitted, Admitted]
    assert _kinds(question.request_id) == ["pending", "expire"]
    assert_books_agree(call.customer_id)


def test_a_call_that_ends_in_the_next_month_counts_for_the_month_that_it_began_in(
    context: BatchContext, clock: FrozenClock
) -> None:
    call = funded_call(plan_limits={"spend_per_day_nanousd": 100, "spend_per_month_nanousd": 100})
    old = _admit(call, context, amount_nanousd=100, lifetime_seconds=10**7)
    clock.advance(seconds=20 * 86_400)
    fresh = _admit(call, context, amount_nanousd=100)
    run(call.settle(old, cost_nanousd=100, started_us=NOON_US), context=context)
    state = LimitState.objects.get(owner=f"customer:{call.customer_id}")
    assert (state.month_posted_nanousd, state.month_held_nanousd, state.day_held_nanousd) == (0, 100, 100)
    run(call.settle(fresh, cost_nanousd=60), context=context)
    assert_books_agree(call.customer_id)

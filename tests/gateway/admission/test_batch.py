"""One transaction of many decisions: every hold is resolved once, and the counters are what the rows add up to."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError, connection
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.accounts import get_balance
from billing.models import Account, Hold, Transfer, TransferKind, UsageRecord, UsageSource, UsageStatus
from billing.tokens import TokenCounts
from common.clock import FrozenClock, from_us
from common.errors import AuthenticationFailed
from gateway.admission import batch
from gateway.admission.batch import BatchContext
from gateway.admission.commands import (
    Admit,
    Admitted,
    Answer,
    FindPrincipal,
    FoundPrincipal,
    Noted,
    NoteProgress,
    Refused,
    Settled,
    Stale,
)
from gateway.models import Model, Worker
from keys.customers import set_customer_status
from keys.issuing import revoke_key
from keys.models import ApiKey, Customer, CustomerStatus, LimitState
from tests.admitting import assert_books_agree, make_context, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, find_principal, funded_call, make_key, make_model, make_price

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOON_US)


@pytest.fixture
def context(clock: FrozenClock) -> BatchContext:
    return make_context(clock)


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
    tokens = TokenCounts(input=1, cache_read=2, cache_write=3, output=4, reasoning=5, audio_input=6, audio_output=7)
    (settled,) = run(call.settle(request_id, cost_nanousd=150, tokens=tokens, started_us=NOON_US), context=context)
    assert settled == Settled(charged_nanousd=150, available_nanousd=850)
    assert _kinds(request_id) == ["pending", "post"]
    record = UsageRecord.objects.get(request_id=request_id)
    assert (record.started_at, record.settled_at) == (from_us(NOON_US), from_us(NOON_US + 3_000_000))
    assert [getattr(record, f"{name}_tokens") for name in tokens.__dataclass_fields__] == [1, 2, 3, 4, 5, 6, 7]
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

    run(replace(call.admit(), client_address="192.0.2.7"), context=context)
    assert used_at() == from_us(NOON_US)
    assert ApiKey.objects.get(pk=call.principal.key_id).last_used_address == "192.0.2.7"
    clock.advance(seconds=59)
    _admit(call, context)
    assert used_at() == from_us(NOON_US)
    clock.advance(seconds=1)
    _admit(call, context)
    assert used_at() == from_us(NOON_US + 60_000_000)


# ---- exactly once


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
        patch.setattr(batch, "transaction", _LosesTheAnswerOfItsCommit)
        with pytest.raises(OperationalError):
            run(settlement, admission, context=context)
    assert Hold.objects.filter(request_id=admission.request_id).exists()
    # The clerk keeps the settlement and runs it again; the admission was refused to its caller.
    (again,) = run(settlement, context=context)
    assert again == Settled(charged_nanousd=150, available_nanousd=850)
    assert _records(request_id) == [(0, "completed", 150, "")]
    assert _kinds(admission.request_id) == ["pending", "expire"]
    assert_books_agree(call.customer_id)


class _LosesTheAnswerOfItsCommit:
    """Stands for django.db.transaction: commits, and then fails as a connection does that breaks at that moment."""

    @staticmethod
    def atomic(**options: Any) -> Any:
        from contextlib import contextmanager

        from django.db import transaction

        @contextmanager
        def lossy() -> Any:
            with transaction.atomic(**options):
                yield
            raise OperationalError("server closed the connection unexpectedly")

        return lossy()


def test_an_admission_that_was_rolled_back_leaves_nothing(
    context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = funded_call(credit_nanousd=1_000)
    request_id = _admit(call, context, amount_nanousd=100)

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(batch, "write_counters", fail)
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
    question = replace(call.admit(amount_nanousd=100, lifetime_seconds=60), draft='{"from": "another version"}')
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
        patch.setattr(batch, "_write", fail)
        with pytest.raises(OperationalError):
            run(call.admit(), context=context)
    (answer,) = run(call.admit(), context=context)
    assert isinstance(answer, Stale)


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

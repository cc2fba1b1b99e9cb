"""The decision is all-or-nothing and keeps every promise at every instant, without a database."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import InsufficientBalance
from billing.journal import AccountState, EarlierUsage, NewUsage, OpenHold
from billing.models import TransferKind, UsageSource, UsageStatus
from billing.tokens import TokenCounts
from common.errors import AuthenticationFailed, TollkeeperError
from gateway.admission.commands import Admit, Admitted, Refused, Stale
from gateway.admission.decisions import (
    AdmissionState,
    Movement,
    decide_admission,
    decide_late_settlement,
    decide_settlement,
)
from keys import limits as rules
from keys.errors import (
    BudgetExceeded,
    BudgetTooSmall,
    ConcurrencyExceeded,
    LimitIsZero,
    RateLimitExceeded,
    RequestExceedsLimit,
    TotalBudgetExceeded,
)
from keys.limit_values import RAISABLE_COLUMNS
from keys.limits import LIMIT_COLUMNS, Counters, LimitKind, LimitValues, Marks
from keys.models import LimitState
from keys.principals import Principal, principal_of_row
from tests.conftest import NOON_US

SECOND = 1_000_000
DAY = 86_400 * SECOND
CUSTOMER, KEY = "customer:1", "key:1"


def _principal(
    *,
    customer: LimitValues | None = None,
    key: LimitValues | None = None,
    status: str = "active",
    revoked_at: object = None,
) -> Principal:
    """Return the snapshot of a row with these limits."""
    key_columns = (
        *(1, "hmac", "key_1", "tk_live_abcde", "k", "live", '["chat:write"]', "[]", "[]", "[]"),
        *(None, revoked_at, None, None, None, "2026-11-21"),
    )
    customer_columns = (1, "cus_1", "Acme", status, 1, "plan", True, None)
    key_values = tuple(getattr(key or LimitValues(), column) for column in LIMIT_COLUMNS)
    customer_values = tuple(getattr(customer or LimitValues(), column) for column in LIMIT_COLUMNS)
    return principal_of_row(
        key_columns + customer_columns + key_values + customer_values + (None,) * len(LIMIT_COLUMNS) + ((), (), ())
    )


def _state(principal: Principal, *, posted_nanousd: int = 1_000, now_us: int = NOON_US) -> AdmissionState:
    account = AccountState(id=10, customer_id=1, posted_nanousd=posted_nanousd, held_nanousd=0)
    return AdmissionState(
        now_us=now_us,
        catalogue_generation=1,
        key_rows={1: principal.row},
        accounts={1: account},
        counters={owner: Counters(owner=owner, updated_us=now_us) for owner in (CUSTOMER, KEY)},
    )


def _question(
    principal: Principal,
    request_id: str = "req_1",
    *,
    amount_nanousd: int = 100,
    input_tokens: int = 10,
    output_tokens: int = 20,
) -> Admit:
    return Admit(
        request_id=request_id,
        principal=principal,
        catalogue_generation=1,
        lifetime_us=600 * SECOND,
        draft=json.dumps({}),
        amount_nanousd=amount_nanousd,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def _hold(state: AdmissionState, question: Admit) -> OpenHold:
    return OpenHold(
        request_id=question.request_id,
        account_id=10,
        pending_id=1 if question.amount_nanousd else None,
        amount_nanousd=question.amount_nanousd,
        worker_id=1,
        owners=f"{CUSTOMER},{KEY}",
        input_tokens=question.input_tokens,
        output_tokens=question.output_tokens,
        day=state.counters[CUSTOMER].day,
        month=state.counters[CUSTOMER].month,
        progress_tokens=0,
        draft="{}",
        created_us=state.now_us,
        expires_us=state.now_us + question.lifetime_us,
    )


def _usage(request_id: str = "req_1", *, cost_nanousd: int = 0, started_us: int = NOON_US, **tokens: int) -> NewUsage:
    return NewUsage(
        request_id=request_id,
        customer_id=1,
        api_key_id=1,
        operation="chat.completions",
        model="m",
        price_version_id=1,
        status=UsageStatus.COMPLETED.value,
        source=UsageSource.PROVIDER.value,
        is_stream=False,
        tokens=TokenCounts(**tokens),
        cost_nanousd=cost_nanousd,
        started_us=started_us,
    )


@dataclass(frozen=True)
class _Taken:
    """Everything that a decision could take; only the clock may repay debts and close windows."""

    balances: list[tuple[int, int]]
    debts: list[int]
    places: list[int]
    held: list[int]


def _snapshot(state: AdmissionState) -> _Taken:
    counters = list(state.counters.values())
    return _Taken(
        balances=[(a.posted_nanousd, a.held_nanousd) for a in state.accounts.values()],
        debts=[d for c in counters for d in (c.requests_debt, c.input_tokens_debt, c.output_tokens_debt)],
        places=[c.in_flight for c in counters],
        held=[h for c in counters for h in (c.day_held_nanousd, c.month_held_nanousd, c.total_held_nanousd)],
    )


# ---- who may not even ask


def test_a_snapshot_that_differs_from_the_row_is_stale_and_the_answer_brings_the_row() -> None:
    principal = _principal()
    state = _state(principal)
    changed = _principal(key=LimitValues(concurrency=1))
    state.key_rows[1] = changed.row
    assert decide_admission(state, _question(principal)) == Stale(principal=changed)


def test_a_key_that_is_gone_is_stale_without_a_successor() -> None:
    principal = _principal()
    state = _state(principal)
    state.key_rows.clear()
    assert decide_admission(state, _question(principal)) == Stale(principal=None)


def test_another_catalogue_is_stale() -> None:
    principal = _principal()
    question = _question(principal)._replace(catalogue_generation=0)
    assert decide_admission(_state(principal), question) == Stale(principal=principal)


@pytest.mark.parametrize("principal", [_principal(status="suspended"), _principal(revoked_at="2026-11-21")])
def test_an_ended_key_is_not_told_apart_from_a_wrong_one(principal: Principal) -> None:
    answer = decide_admission(_state(principal), _question(principal))
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, AuthenticationFailed)


# ---- all or nothing


@pytest.mark.parametrize("owner", ["customer", "key"])
@pytest.mark.parametrize(
    ("limit", "error"),
    [
        ({"requests_per_minute": 1}, RateLimitExceeded),
        ({"input_tokens_per_minute": 15}, RateLimitExceeded),
        ({"output_tokens_per_minute": 39}, RateLimitExceeded),
        ({"output_tokens_per_minute": 19}, RequestExceedsLimit),
        ({"concurrency": 1}, ConcurrencyExceeded),
        ({"spend_per_day_nanousd": 199}, BudgetExceeded),
        ({"spend_per_month_nanousd": 199}, BudgetExceeded),
        ({"spend_total_nanousd": 199}, TotalBudgetExceeded),
        ({"spend_per_day_nanousd": 99}, BudgetTooSmall),
        ({"requests_per_minute": 0}, LimitIsZero),
    ],
)
def test_one_limit_that_refuses_leaves_all_others_untouched(
    owner: str, limit: dict[str, int], error: type[TollkeeperError]
) -> None:
    tight = replace(_wide(), **limit)  # type: ignore[arg-type]
    principal = _principal(customer=tight if owner == "customer" else _wide(), key=tight if owner == "key" else _wide())
    state = _state(principal)
    before, answer = _snapshot(state), decide_admission(state, _question(principal))
    if isinstance(answer, Admitted):
        before, answer = _snapshot(state), decide_admission(state, _question(principal))
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, error)
    assert answer.error.details["owner"] == owner
    assert _snapshot(state) == before


def _wide() -> LimitValues:
    return replace(LimitValues(), **dict.fromkeys(RAISABLE_COLUMNS, 1_000))  # type: ignore[arg-type]


def test_money_that_is_missing_leaves_all_limits_untouched() -> None:
    principal = _principal(customer=_wide(), key=_wide())
    state = _state(principal, posted_nanousd=99)
    before = _snapshot(state)
    answer = decide_admission(state, _question(principal))
    assert isinstance(answer, Refused)
    assert isinstance(answer.error, InsufficientBalance)
    assert answer.limits
    assert _snapshot(state) == before


def test_the_last_nano_dollar_can_be_spent_and_not_one_more() -> None:
    principal = _principal()
    state = _state(principal, posted_nanousd=100)
    assert isinstance(decide_admission(state, _question(principal)), Admitted)
    assert isinstance(decide_admission(state, _question(principal, amount_nanousd=1)), Refused)
    assert isinstance(decide_admission(state, _question(principal, amount_nanousd=0)), Admitted)


def test_a_refused_call_is_told_the_limits_as_they_are_now() -> None:
    principal = _principal(customer=LimitValues(concurrency=0), key=LimitValues(requests_per_minute=60))
    state = _state(principal)
    state.counters[KEY].requests_debt = 60 * rules.UNIT
    state = replace(state, now_us=NOON_US + 60 * SECOND)
    answer = decide_admission(state, _question(principal))
    assert isinstance(answer, Refused)
    assert {r.kind: r.remaining for r in answer.limits} == {LimitKind.REQUESTS: 60, LimitKind.CONCURRENCY: 0}


def test_the_reading_of_the_tighter_owner_is_shown() -> None:
    principal = _principal(customer=LimitValues(requests_per_minute=9), key=LimitValues(requests_per_minute=5))
    answer = decide_admission(_state(principal), _question(principal))
    assert isinstance(answer, Admitted)
    assert [(r.limit, r.remaining) for r in answer.limits] == [(5, 4)]


# ---- settling


@pytest.mark.parametrize(
    ("cost", "is_expiry", "charged", "kind", "amount"),
    [
        (40, False, 40, TransferKind.POST, 40),
        (100, False, 100, TransferKind.POST, 100),
        (250, False, 100, TransferKind.POST, 100),
        (0, False, 0, TransferKind.VOID, 100),
        (0, True, 0, TransferKind.EXPIRE, 100),
        (40, True, 40, TransferKind.POST, 40),
    ],
)
def test_a_hold_is_posted_voided_or_expired_and_never_exceeded(
    cost: int, is_expiry: bool, charged: int, kind: TransferKind, amount: int
) -> None:
    principal = _principal()
    state = _state(principal)
    question = _question(principal)
    decide_admission(state, question)
    settled, movements = decide_settlement(
        state, _hold(state, question), _usage(cost_nanousd=cost), is_expiry=is_expiry
    )
    assert settled.charged_nanousd == charged
    assert settled.available_nanousd == 1_000 - charged
    assert movements == [Movement(kind=kind, account_id=10, amount_nanousd=amount, request_id="req_1", pending_id=1)]


def test_a_call_that_could_cost_nothing_moves_nothing() -> None:
    principal = _principal(customer=LimitValues(concurrency=1))
    state = _state(principal, posted_nanousd=0)
    question = _question(principal, amount_nanousd=0)
    assert isinstance(decide_admission(state, question), Admitted)
    settled, movements = decide_settlement(state, _hold(state, question), _usage(), is_expiry=False)
    assert (settled.charged_nanousd, movements) == (0, [])
    assert isinstance(decide_admission(state, question), Admitted)


@pytest.mark.parametrize(
    ("posted", "before", "budget", "charged"),
    [
        (1_000, EarlierUsage(was_settled=False, charged_nanousd=0, held_nanousd=100), None, 70),
        (1_000, EarlierUsage(was_settled=False, charged_nanousd=30, held_nanousd=100), None, 40),
        (1_000, EarlierUsage(was_settled=False, charged_nanousd=90, held_nanousd=100), None, 0),
        (1_000, EarlierUsage(was_settled=False, charged_nanousd=0, held_nanousd=50), None, 50),
        (1_000, EarlierUsage(was_settled=False, charged_nanousd=0, held_nanousd=0), None, 0),
        (60, EarlierUsage(was_settled=False, charged_nanousd=0, held_nanousd=100), None, 60),
        (-5, EarlierUsage(was_settled=False, charged_nanousd=0, held_nanousd=100), None, 0),
        (1_000, EarlierUsage(was_settled=False, charged_nanousd=0, held_nanousd=100), 20, 20),
    ],
)
def test_a_late_settlement_takes_no_more_than_hold_balance_and_budget(
    posted: int, before: EarlierUsage, budget: int | None, charged: int
) -> None:
    principal = _principal(key=LimitValues(spend_per_day_nanousd=budget))
    state = _state(principal, posted_nanousd=posted)
    settled, movements = decide_late_settlement(state, _usage(cost_nanousd=70), principal, before)
    assert settled.charged_nanousd == charged
    assert [(m.kind, m.amount_nanousd) for m in movements] == ([(TransferKind.DIRECT, charged)] if charged else [])
    assert state.accounts[1].posted_nanousd == posted - charged
    assert state.counters[KEY].day_posted_nanousd == charged


def test_a_late_settlement_of_yesterday_leaves_the_budget_of_today_alone() -> None:
    principal = _principal(customer=LimitValues(spend_per_day_nanousd=10))
    state = _state(principal, now_us=NOON_US + DAY)
    before = EarlierUsage(was_settled=False, charged_nanousd=0, held_nanousd=100)
    settled, _ = decide_late_settlement(state, _usage(cost_nanousd=70), principal, before)
    assert settled.charged_nanousd == 70
    assert state.counters[CUSTOMER].day_posted_nanousd == 0
    assert state.counters[CUSTOMER].month_posted_nanousd == 70


def test_a_clock_that_is_behind_at_midnight_does_not_unbalance_the_budgets() -> None:
    principal = _principal()
    midnight_us = NOON_US + DAY // 2
    state = _state(principal, now_us=midnight_us - SECOND)
    # A machine whose clock is ahead has brought the customer's counters into the new day already.
    rules.roll_forward(state.counters[CUSTOMER], LimitValues(), midnight_us + SECOND)
    question = _question(principal)
    assert isinstance(decide_admission(state, question), Admitted)
    hold = _hold(state, question)
    state = replace(state, now_us=midnight_us + 2 * SECOND)
    decide_admission(state, _question(principal, request_id="req_2", amount_nanousd=0))
    decide_settlement(state, hold, _usage(cost_nanousd=40), is_expiry=False)
    for counters in state.counters.values():
        assert (counters.day_held_nanousd, counters.day_posted_nanousd) == (0, 40)


# ---- random interleavings


@dataclass
class _Model:
    """The simplest book-keeping that could be right: lists of what is open and what was charged."""

    open: dict[str, tuple[OpenHold, NewUsage, tuple[Marks, ...]]] = field(default_factory=dict)
    charged: list[tuple[int, int, int]] = field(default_factory=list)

    def held(self) -> int:
        return sum(hold.amount_nanousd for hold, _, _ in self.open.values())

    def spent(self, *, day: int | None = None, month: int | None = None) -> int:
        return sum(c for c, d, m in self.charged if day in (None, d) and month in (None, m)) + sum(
            hold.amount_nanousd
            for hold, _, _ in self.open.values()
            if day in (None, hold.day) and month in (None, hold.month)
        )


small_limit = st.none() | st.integers(min_value=0, max_value=8)
limit_values = st.builds(
    LimitValues,
    requests_per_minute=small_limit,
    input_tokens_per_minute=st.none() | st.integers(min_value=0, max_value=60),
    output_tokens_per_minute=st.none() | st.integers(min_value=0, max_value=60),
    concurrency=small_limit,
    spend_per_day_nanousd=st.none() | st.integers(min_value=0, max_value=600),
    spend_per_month_nanousd=st.none() | st.integers(min_value=0, max_value=900),
    spend_total_nanousd=st.none() | st.integers(min_value=0, max_value=1_200),
    burst_seconds=st.none() | st.integers(min_value=1, max_value=120),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "settle", "expire"]),
        st.sampled_from([0, 1, SECOND, 7 * SECOND, 60 * SECOND, DAY // 2, 16 * DAY]),
        st.integers(min_value=0, max_value=120),
        st.integers(min_value=0, max_value=30),
    ),
    max_size=50,
)


@given(customer=limit_values, key=limit_values, posted=st.integers(min_value=0, max_value=1_500), steps=steps)
def test_no_interleaving_of_calls_breaks_a_limit_a_budget_or_the_balance(
    customer: LimitValues, key: LimitValues, posted: int, steps: list[tuple[str, int, int, int]]
) -> None:
    principal = _principal(customer=customer, key=key)
    state, model = _state(principal, posted_nanousd=posted), _Model()
    for number, (step, pause_us, amount, tokens) in enumerate(steps):
        state = replace(state, now_us=state.now_us + pause_us)
        if step == "admit":
            question = _question(
                principal, f"req_{number}", amount_nanousd=amount, input_tokens=tokens, output_tokens=tokens
            )
            before = _snapshot(state)
            answer = decide_admission(state, question)
            if isinstance(answer, Admitted):
                assert answer.available_nanousd == posted - model.held() - sum(c for c, _, _ in model.charged) - amount
                model.open[question.request_id] = (_hold(state, question), _usage(question.request_id), answer.marks)
                _assert_within(state, principal, model)
            else:
                # Refilling is no taking: compare with what the clock alone would have done.
                _assert_took_nothing(before, state)
        elif model.open:
            _resolve(state, model, number, cost=amount, tokens=tokens, is_expiry=step == "expire")
        _assert_balanced(state, model, posted)
    for number in range(len(model.open)):
        _resolve(state, model, number, cost=0, tokens=0, is_expiry=False)
    for counters in state.counters.values():
        assert (counters.in_flight, counters.day_held_nanousd, counters.month_held_nanousd) == (0, 0, 0)
        assert counters.total_held_nanousd == 0
    assert state.accounts[1].held_nanousd == 0
    later_us = state.now_us + 121 * SECOND
    for counters, limits in ((state.counters[CUSTOMER], customer), (state.counters[KEY], key)):
        rules.roll_forward(counters, limits, later_us)
        for name, limit in _debts(counters, limits):
            assert name == 0 or limit == 0


def _debts(counters: Counters, limits: LimitValues) -> Iterator[tuple[int, int]]:
    for debt, limit in (
        (counters.requests_debt, limits.requests_per_minute),
        (counters.input_tokens_debt, limits.input_tokens_per_minute),
        (counters.output_tokens_debt, limits.output_tokens_per_minute),
    ):
        if limit is not None:
            yield debt, limit


def _resolve(state: AdmissionState, model: _Model, number: int, *, cost: int, tokens: int, is_expiry: bool) -> None:
    request_id = list(model.open)[number % len(model.open)]
    hold, usage, marks = model.open.pop(request_id)
    used = usage._replace(
        cost_nanousd=cost,
        tokens=TokenCounts(input=min(tokens, hold.input_tokens), output=min(tokens, hold.output_tokens)),
    )
    settled, movements = decide_settlement(state, hold, used, is_expiry=is_expiry, marks=marks)
    assert settled.charged_nanousd <= hold.amount_nanousd
    assert len(movements) == (1 if hold.amount_nanousd else 0)
    model.charged.append((settled.charged_nanousd, hold.day, hold.month))


def _assert_balanced(state: AdmissionState, model: _Model, posted: int) -> None:
    account = state.accounts[1]
    assert account.held_nanousd == model.held()
    assert account.posted_nanousd == posted - sum(charged for charged, _, _ in model.charged)
    assert 0 <= account.held_nanousd <= account.posted_nanousd
    columns = [f.attname for f in LimitState._meta.concrete_fields if f.attname.endswith(("_debt", "_held_nanousd"))]
    for counters in state.counters.values():
        assert counters.in_flight == len(model.open)
        assert all(getattr(counters, column) >= 0 for column in columns)


def _assert_within(state: AdmissionState, principal: Principal, model: _Model) -> None:
    """Check every limit right after an admission: the moment at which it is fullest."""
    for counters, limits in (
        (state.counters[CUSTOMER], principal.customer_limits),
        (state.counters[KEY], principal.key_limits),
    ):
        assert limits.concurrency is None or len(model.open) <= limits.concurrency
        rates = limits.rates["chat"]
        assert all(getattr(counters, rate.debt_name) <= rate.capacity for rate in rates)
        assert limits.spend_total_nanousd is None or model.spent() <= limits.spend_total_nanousd
        day, month = rules.day_number(state.now_us), rules.month_number(state.now_us)
        assert limits.spend_per_day_nanousd is None or model.spent(day=day) <= limits.spend_per_day_nanousd
        assert limits.spend_per_month_nanousd is None or model.spent(month=month) <= limits.spend_per_month_nanousd


def _assert_took_nothing(before: _Taken, state: AdmissionState) -> None:
    after = _snapshot(state)
    assert (after.balances, after.places) == (before.balances, before.places)
    assert all(now <= earlier for earlier, now in zip(before.debts, after.debts, strict=True))
    assert all(now in (earlier, 0) for earlier, now in zip(before.held, after.held, strict=True))

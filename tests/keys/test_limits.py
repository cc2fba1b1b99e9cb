"""The arithmetic of limits never lets more pass than limit and refill, and gives back what was not used."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import to_us
from keys import limits as rules
from keys.errors import (
    BudgetExceeded,
    BudgetTooSmall,
    ConcurrencyExceeded,
    LimitIsZero,
    RateLimitExceeded,
    RequestExceedsLimit,
    TotalBudgetExceeded,
    refusal_error,
)
from keys.limits import Counters, Demand, LimitKind, LimitRefusal, LimitValues, Marks, OwnerState
from tests.conftest import NOON_US

SECOND = 1_000_000
# Where the last admitted call of some counters stands, for tests with one call at a time.
_marks: dict[int, Marks] = {}
moments = st.integers(min_value=0, max_value=to_us(datetime(2200, 1, 1, tzinfo=UTC)))


def _counters(**values: int) -> Counters:
    return Counters(owner="key:1", **{"updated_us": NOON_US, **values})


def _demand(*, input_tokens: int = 0, output_tokens: int = 0, amount_nanousd: int = 0) -> Demand:
    return Demand(input_tokens=input_tokens, output_tokens=output_tokens, amount_nanousd=amount_nanousd)


def _try(counters: Counters, limits: LimitValues, demand: Demand, now_us: int) -> LimitRefusal | None:
    rules.roll_forward(counters, limits, now_us)
    owner = OwnerState(counters, counters, limits)
    refusal = rules.find_refusal(owner, demand, now_us)
    if refusal is None:
        _marks[id(counters)] = rules.take(owner, demand)
    return refusal


# ---- days and months


@given(moments)
def test_the_month_of_any_moment_is_that_of_the_calendar(moment_us: int) -> None:
    moment = datetime.fromtimestamp(moment_us // SECOND, UTC)
    month = rules.month_number(moment_us)
    assert month == moment.year * 12 + moment.month - 1
    first_day = rules.month_start_day(month)
    assert first_day == rules.day_number(to_us(datetime(moment.year, moment.month, 1, tzinfo=UTC)))


@pytest.mark.parametrize("moment", ["2024-02-29", "2100-02-28", "2100-03-01", "2000-02-29", "1999-12-31", "1970-01-01"])
def test_leap_years_and_year_ends_are_right(moment: str) -> None:
    day = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert rules.month_number(to_us(day)) == day.year * 12 + day.month - 1


# ---- rates


@given(
    limit=st.integers(min_value=1, max_value=1_000),
    steps=st.lists(
        st.tuples(st.integers(min_value=0, max_value=90 * SECOND), st.integers(min_value=1, max_value=1_200)),
        max_size=60,
    ),
)
def test_no_stretch_of_time_admits_more_than_the_limit_and_its_refill(limit: int, steps: list[tuple[int, int]]) -> None:
    counters, limits = _counters(), LimitValues(input_tokens_per_minute=limit)
    now_us, admitted = NOON_US, []
    for pause_us, tokens in steps:
        now_us += pause_us
        if _try(counters, limits, _demand(input_tokens=tokens), now_us) is None:
            admitted.append((now_us, tokens))
    for start, (from_us, _) in enumerate(admitted):
        total = 0
        for until_us, tokens in admitted[start:]:
            total += tokens
            # In whole unit-microseconds: no rounding hides a unit.
            assert total * rules.UNIT <= limit * rules.UNIT + limit * (until_us - from_us)


@given(
    limit=st.integers(min_value=1, max_value=1_000),
    tokens=st.integers(min_value=1, max_value=1_000),
    debt_tokens=st.integers(min_value=0, max_value=1_000),
)
def test_a_call_passes_after_exactly_the_wait_that_it_was_told(limit: int, tokens: int, debt_tokens: int) -> None:
    limits = LimitValues(output_tokens_per_minute=limit)
    counters = _counters(output_tokens_debt=min(debt_tokens, limit) * rules.UNIT)
    refusal = _try(counters, limits, _demand(output_tokens=tokens), NOON_US)
    if refusal is None:
        return
    if tokens > limit:
        assert refusal.retry_after_seconds is None
        return
    assert refusal.retry_after_seconds is not None
    later_us = NOON_US + refusal.retry_after_seconds * SECOND
    early = _counters(output_tokens_debt=counters.output_tokens_debt)
    assert _try(early, limits, _demand(output_tokens=tokens), later_us - SECOND) is not None
    assert _try(counters, limits, _demand(output_tokens=tokens), later_us) is None


def test_sixty_requests_a_minute_are_sixty_at_once_and_then_one_a_second() -> None:
    counters, limits = _counters(), LimitValues(requests_per_minute=60)
    assert [_try(counters, limits, _demand(), NOON_US) for _ in range(60)] == [None] * 60
    refusal = _try(counters, limits, _demand(), NOON_US)
    assert refusal is not None
    assert (refusal.kind, refusal.limit, refusal.used, refusal.retry_after_seconds) == (LimitKind.REQUESTS, 60, 60, 1)
    assert _try(counters, limits, _demand(), NOON_US + SECOND - 1) is not None
    assert _try(counters, limits, _demand(), NOON_US + SECOND) is None
    assert _try(counters, limits, _demand(), NOON_US + SECOND) is not None


def test_a_clock_that_goes_back_repays_nothing_and_takes_nothing() -> None:
    counters, limits = _counters(), LimitValues(requests_per_minute=1)
    assert _try(counters, limits, _demand(), NOON_US) is None
    before = counters.requests_debt
    assert _try(counters, limits, _demand(), NOON_US - 3600 * SECOND) is not None
    assert counters.requests_debt == before
    assert _try(counters, limits, _demand(), NOON_US + 59 * SECOND) is not None


def test_a_limit_of_zero_lets_nothing_pass() -> None:
    refusal = _try(_counters(), LimitValues(requests_per_minute=0), _demand(), NOON_US)
    assert refusal is not None
    assert refusal.retry_after_seconds is None


def test_a_limit_that_is_set_later_starts_full() -> None:
    counters = _counters()
    for _ in range(100):
        assert _try(counters, LimitValues(), _demand(input_tokens=10), NOON_US) is None
    limited = LimitValues(requests_per_minute=2, input_tokens_per_minute=20)
    assert _try(counters, limited, _demand(input_tokens=10), NOON_US) is None
    assert _try(counters, limited, _demand(input_tokens=10), NOON_US) is None
    assert _try(counters, limited, _demand(input_tokens=10), NOON_US) is not None


def test_the_largest_limits_fit_into_a_column() -> None:
    counters, limits = _counters(), LimitValues(input_tokens_per_minute=rules.MAX_RATE)
    assert _try(counters, limits, _demand(input_tokens=rules.MAX_RATE), NOON_US) is None
    assert counters.input_tokens_debt < 2**63
    _end(counters, _demand(input_tokens=rules.MAX_RATE), used_input_tokens=10**12)
    assert counters.input_tokens_debt < 2**63


# ---- settling


def _end(
    counters: Counters,
    held: Demand,
    *,
    used_input_tokens: int = 0,
    used_output_tokens: int = 0,
    charged_nanousd: int = 0,
    day: int | None = None,
    month: int | None = None,
    marks: Marks | None = None,
) -> None:
    rules.settle_main(
        counters,
        held_nanousd=held.amount_nanousd,
        held_day=counters.day if day is None else day,
        held_month=counters.month if month is None else month,
        charged_nanousd=charged_nanousd,
    )
    rules.settle_rates(
        counters,
        held=held,
        marks=_marks[id(counters)] if marks is None else marks,
        used_input=used_input_tokens,
        used_output=used_output_tokens,
    )


@given(
    limit=st.integers(min_value=1, max_value=1_000),
    steps=st.lists(
        st.tuples(
            st.integers(min_value=0, max_value=30 * SECOND),
            st.sampled_from(["take", "settle"]),
            st.integers(min_value=1, max_value=1_000),
        ),
        max_size=60,
    ),
)
def test_tokens_used_and_held_never_exceed_a_full_bucket_and_its_refill_in_any_stretch(
    limit: int, steps: list[tuple[int, str, int]]
) -> None:
    counters, limits = _counters(), LimitValues(output_tokens_per_minute=limit)
    now_us = NOON_US
    held: list[tuple[int, Marks]] = []
    calls: list[tuple[int, int]] = []
    for pause_us, step, tokens in steps:
        now_us += pause_us
        if step == "take":
            if _try(counters, limits, _demand(output_tokens=tokens), now_us) is None:
                held.append((len(calls), _marks[id(counters)]))
                calls.append((now_us, tokens))
        elif held:
            number, marks = held.pop(tokens % len(held))
            started_us, reserved = calls[number]
            spent = min(tokens, reserved)
            _end(counters, _demand(output_tokens=reserved), used_output_tokens=spent, marks=marks)
            calls[number] = (started_us, spent)
        # In every stretch of time: what its calls used, or still hold, fits into a full bucket and its refill.
        for start, (from_us, _) in enumerate(calls):
            total = sum(tokens for _, tokens in calls[start:])
            assert total * rules.UNIT <= limit * rules.UNIT + limit * (now_us - from_us)


def test_what_has_drained_is_not_given_back_out_of_what_later_calls_took() -> None:
    counters, limits = _counters(), LimitValues(output_tokens_per_minute=100)
    assert _try(counters, limits, _demand(output_tokens=100), NOON_US) is None
    old = _marks[id(counters)]
    later_us = NOON_US + 60 * SECOND
    assert _try(counters, limits, _demand(output_tokens=100), later_us) is None
    _end(counters, _demand(output_tokens=100), used_output_tokens=0, marks=old)
    assert _try(counters, limits, _demand(output_tokens=1), later_us) is not None


def test_a_call_whose_place_in_the_bucket_is_not_known_gives_nothing_back() -> None:
    counters, limits = _counters(), LimitValues(output_tokens_per_minute=100)
    assert _try(counters, limits, _demand(output_tokens=100), NOON_US) is None
    _end(counters, _demand(output_tokens=100), used_output_tokens=0, marks=Marks())
    assert _try(counters, limits, _demand(output_tokens=1), NOON_US) is not None
    assert _try(counters, limits, _demand(output_tokens=100), NOON_US + 60 * SECOND) is None


def test_what_a_call_did_not_use_is_free_at_once() -> None:
    counters, limits = _counters(), LimitValues(output_tokens_per_minute=100)
    assert _try(counters, limits, _demand(output_tokens=100), NOON_US) is None
    assert _try(counters, limits, _demand(output_tokens=80), NOON_US) is not None
    _end(counters, _demand(output_tokens=100), used_output_tokens=20)
    assert _try(counters, limits, _demand(output_tokens=80), NOON_US) is None


def test_what_a_call_used_beyond_its_estimate_counts() -> None:
    counters, limits = _counters(), LimitValues(input_tokens_per_minute=100)
    assert _try(counters, limits, _demand(input_tokens=10), NOON_US) is None
    _end(counters, _demand(input_tokens=10), used_input_tokens=100)
    refusal = _try(counters, limits, _demand(input_tokens=1), NOON_US)
    assert refusal is not None
    assert refusal.used == 100


def test_places_in_flight_are_limited_and_come_back() -> None:
    counters, limits = _counters(), LimitValues(concurrency=2)
    assert [_try(counters, limits, _demand(), NOON_US) is None for _ in range(3)] == [True, True, False]
    _end(counters, _demand())
    assert [_try(counters, limits, _demand(), NOON_US) is None for _ in range(2)] == [True, False]


# ---- budgets


@pytest.mark.parametrize(
    ("column", "kind", "next_window"),
    [
        ("spend_per_day_nanousd", LimitKind.SPEND_DAY, datetime(2026, 11, 22, tzinfo=UTC)),
        ("spend_per_month_nanousd", LimitKind.SPEND_MONTH, datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_budget_counts_held_and_spent_and_resets_at_its_window(
    column: str, kind: LimitKind, next_window: datetime
) -> None:
    counters, limits = _counters(), replace(LimitValues(), **{column: 100})  # type: ignore[arg-type]
    assert _try(counters, limits, _demand(amount_nanousd=60), NOON_US) is None
    refusal = _try(counters, limits, _demand(amount_nanousd=41), NOON_US)
    assert refusal is not None
    assert (refusal.kind, refusal.used, refusal.requested) == (kind, 60, 41)
    seconds_left = (to_us(next_window) - NOON_US) // SECOND
    assert refusal.resets_in_seconds == refusal.retry_after_seconds == seconds_left + 1
    _end(counters, _demand(amount_nanousd=60), charged_nanousd=10)
    assert _try(counters, limits, _demand(amount_nanousd=90), NOON_US) is None
    assert _try(counters, limits, _demand(amount_nanousd=1), to_us(next_window) - 1) is not None
    assert _try(counters, limits, _demand(amount_nanousd=100), to_us(next_window)) is None


def test_a_call_that_ends_after_midnight_leaves_the_new_day_alone() -> None:
    counters, limits = _counters(), LimitValues(spend_per_day_nanousd=100, spend_per_month_nanousd=1_000)
    held = _demand(amount_nanousd=100)
    assert _try(counters, limits, held, NOON_US) is None
    day, month = counters.day, counters.month
    tomorrow_us = NOON_US + 86_400 * SECOND
    assert _try(counters, limits, held, tomorrow_us) is None
    _end(counters, held, charged_nanousd=70, day=day, month=month)
    assert (counters.day_posted_nanousd, counters.day_held_nanousd) == (0, 100)
    assert (counters.month_posted_nanousd, counters.month_held_nanousd) == (70, 100)


# ---- what is told


@pytest.mark.parametrize(
    ("limits", "demand", "error", "status"),
    [
        (LimitValues(requests_per_minute=1), _demand(), RateLimitExceeded, 429),
        (LimitValues(concurrency=1), _demand(), ConcurrencyExceeded, 429),
        (LimitValues(input_tokens_per_minute=5), _demand(input_tokens=6), RequestExceedsLimit, 400),
        (LimitValues(output_tokens_per_minute=5), _demand(output_tokens=4), RateLimitExceeded, 429),
        (LimitValues(spend_per_day_nanousd=5), _demand(amount_nanousd=4), BudgetExceeded, 429),
        (LimitValues(spend_per_month_nanousd=5), _demand(amount_nanousd=4), BudgetExceeded, 429),
        (LimitValues(spend_per_month_nanousd=5), _demand(amount_nanousd=6), BudgetTooSmall, 402),
        (LimitValues(spend_total_nanousd=5), _demand(amount_nanousd=4), TotalBudgetExceeded, 402),
        (LimitValues(requests_per_minute=0), _demand(), LimitIsZero, 403),
        (LimitValues(output_tokens_per_minute=0), _demand(output_tokens=1), LimitIsZero, 403),
        (LimitValues(concurrency=0), _demand(), LimitIsZero, 403),
    ],
)
def test_each_refusal_has_its_error_with_the_numbers(
    limits: LimitValues, demand: Demand, error: type[Exception], status: int
) -> None:
    counters = _counters()
    first = _try(counters, limits, demand, NOON_US)
    refusal = first or _try(counters, limits, demand, NOON_US)
    assert refusal is not None
    told = refusal_error(refusal)
    assert type(told) is error
    assert told.status == status
    assert told.details["limit_name"] == refusal.kind.value
    assert told.details["set_by"] == "key"
    assert (told.retry_after_seconds is not None) == (status == 429)


def test_readings_tell_what_is_left_and_when_it_is_full_again() -> None:
    counters, limits = _counters(), LimitValues(requests_per_minute=60, input_tokens_per_minute=100)
    assert _try(counters, limits, _demand(input_tokens=30), NOON_US) is None
    read = {
        r.kind: (r.limit, r.remaining, r.reset_seconds)
        for r in rules.readings(OwnerState(counters, counters, limits), NOON_US)
    }
    assert read == {LimitKind.REQUESTS: (60, 59, 1), LimitKind.INPUT_TOKENS: (100, 70, 18)}

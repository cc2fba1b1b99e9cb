"""A breaker opens at what fails, tries again by itself, and tells others no more than what has changed."""

import pytest

from gateway.breakers import Breakers, BreakerState, HealthBook, Passage
from gateway.models import BreakerReason

S = 1_000_000


@pytest.fixture
def breakers() -> Breakers:
    return Breakers(failures=3, rest_seconds=10)


def fail(breakers: Breakers, at_us: int, *, asked: int | None = None) -> BreakerState | None:
    return breakers.note_failure(1, at_us, error_code="upstream_error", asked_seconds=asked)


def trip(breakers: Breakers, at_us: int = 0) -> BreakerState:
    found = [state for state in (fail(breakers, at_us) for _ in range(3)) if state is not None]
    assert len(found) == 1
    return found[0]


def test_several_failures_open_it_and_only_that_is_news(breakers: Breakers) -> None:
    assert [fail(breakers, 0), fail(breakers, S)] == [None, None]
    assert breakers.begin(1, S) is Passage.FREE
    state = fail(breakers, 2 * S)
    assert state is not None
    assert (state.is_open, state.until_us, state.trips) == (True, 12 * S, 1)
    # Calls that were under way fail as well: that is the same news.
    assert fail(breakers, 3 * S) is None
    assert breakers.begin(1, 3 * S) is Passage.BARRED
    assert breakers.resting_until_us(1, 3 * S) == 12 * S
    assert breakers.resting_until_us(2, 3 * S) == 0


def test_answers_and_time_make_up_for_failures(breakers: Breakers) -> None:
    for second in range(0, 3_600, 60):
        assert fail(breakers, second * S) is None
    for second in range(4_000, 4_100):
        # Three answers to a failure.
        assert fail(breakers, second * S) is None
        for _ in range(3):
            assert breakers.note_answer(1, second * S) is None


def test_a_call_in_two_that_fails_opens_it_in_the_end(breakers: Breakers) -> None:
    opened = []
    for _ in range(20):
        opened.append(fail(breakers, 0))
        breakers.note_answer(1, 0)
    assert any(opened)


def test_after_its_rest_one_call_tries_it_and_its_answer_closes_it(breakers: Breakers) -> None:
    trip(breakers)
    assert breakers.begin(1, 10 * S) is Passage.TRIAL
    assert breakers.begin(1, 10 * S) is Passage.BARRED
    assert breakers.resting_until_us(1, 10 * S) > 10 * S
    state = breakers.note_answer(1, 11 * S)
    assert state is not None
    assert (state.is_open, state.reason, state.trips) == (False, BreakerReason.RECOVERED, 0)
    assert breakers.begin(1, 11 * S) is Passage.FREE
    assert breakers.begin(1, 11 * S) is Passage.FREE


def test_each_trial_that_fails_doubles_the_rest_up_to_a_bound(breakers: Breakers) -> None:
    state = trip(breakers)
    rests = []
    for _ in range(8):
        now_us = state.until_us
        assert breakers.begin(1, now_us) is Passage.TRIAL
        following = fail(breakers, now_us)
        assert following is not None
        state = following
        rests.append((state.until_us - now_us) // S)
    assert rests == [20, 40, 80, 160, 300, 300, 300, 300]


def test_a_trial_that_told_nothing_lets_the_next_call_try(breakers: Breakers) -> None:
    trip(breakers)
    assert breakers.begin(1, 10 * S) is Passage.TRIAL
    breakers.leave(1)
    assert breakers.begin(1, 10 * S) is Passage.TRIAL


def test_a_trial_that_is_never_heard_of_keeps_others_out_for_a_minute_only(breakers: Breakers) -> None:
    trip(breakers)
    assert breakers.begin(1, 10 * S) is Passage.TRIAL
    assert breakers.begin(1, 69 * S) is Passage.BARRED
    assert breakers.begin(1, 71 * S) is Passage.TRIAL


def test_a_provider_that_limits_calls_rests_as_long_as_it_asked_and_is_simply_called_then(breakers: Breakers) -> None:
    state = fail(breakers, 0, asked=60)
    assert state is not None
    assert (state.reason, state.until_us) == (BreakerReason.RATE_LIMITED, 60 * S)
    assert fail(breakers, S, asked=59) is None
    assert breakers.begin(1, 59 * S) is Passage.BARRED
    assert breakers.begin(1, 60 * S) is Passage.FREE
    assert breakers.begin(1, 60 * S) is Passage.FREE
    assert breakers.note_answer(1, 61 * S) is None
    assert breakers.resting_until_us(1, 61 * S) == 0


def test_an_answer_to_a_call_from_before_does_not_close_it(breakers: Breakers) -> None:
    trip(breakers)
    assert breakers.note_answer(1, S) is None
    assert breakers.begin(1, S) is Passage.BARRED


def test_what_others_found_out_counts_unless_what_is_known_here_is_later(breakers: Breakers) -> None:
    theirs = BreakerState(
        deployment_id=1,
        is_open=True,
        reason="failures",
        error_code="upstream_error",
        trips=1,
        until_us=50 * S,
        changed_us=5 * S,
    )
    breakers.take_in(HealthBook(1, {1: theirs}))
    assert breakers.resting_until_us(1, 6 * S) == 50 * S
    # Reset by hand.
    breakers.take_in(HealthBook(2, {1: theirs._replace(is_open=False, reason="reset", changed_us=7 * S)}))
    assert breakers.begin(1, 8 * S) is Passage.FREE
    mine = trip(breakers, 9 * S)
    breakers.take_in(HealthBook(3, {1: theirs._replace(is_open=False, reason="reset", changed_us=7 * S)}))
    assert breakers.resting_until_us(1, 10 * S) == mine.until_us


def test_latency_is_forgotten_so_that_the_slow_are_tried_again(breakers: Breakers) -> None:
    breakers.note_latency(1, 0, 1.0)
    breakers.note_latency(1, S, 2.0)
    assert breakers.latency_of(1, S) == pytest.approx(1.2)
    assert breakers.latency_of(1, 302 * S) is None


def test_what_another_process_tries_is_passed_by_until_its_trial_ends(breakers: Breakers) -> None:
    state = trip(breakers)
    theirs = state._replace(trial_until_us=70 * S)
    breakers.take_in(HealthBook(1, {1: theirs}))
    assert breakers.begin(1, 11 * S) is Passage.BARRED
    assert breakers.resting_until_us(1, 11 * S) == 70 * S
    # It told nothing.
    breakers.take_in(HealthBook(2, {1: state}))
    assert breakers.begin(1, 12 * S) is Passage.TRIAL
    assert breakers.trial_of(1) == state._replace(trial_until_us=72 * S)
    # They were a moment earlier.
    breakers.note_trial_elsewhere(1, 71 * S)
    assert breakers.begin(1, 70 * S) is Passage.BARRED
    assert breakers.begin(1, 71 * S) is Passage.TRIAL


def test_a_change_of_state_ends_its_trial(breakers: Breakers) -> None:
    trip(breakers)
    assert breakers.begin(1, 10 * S) is Passage.TRIAL
    state = fail(breakers, 11 * S)
    assert state is not None
    assert state.trial_until_us == 0
    assert breakers.begin(1, state.until_us) is Passage.TRIAL

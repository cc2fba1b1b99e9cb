"""Who waits outside under load: batch before interactive, free before paid; and that it ends by itself.

Time is a number here and nothing is random, so each run is the same.
"""

from collections import Counter, deque

import pytest

from gateway.load import (
    HALF_LIFE_SECONDS,
    THRESHOLDS,
    LoadMeter,
    Pressure,
    Priority,
    Strain,
    find_shed,
    priority_of,
)

_UPSTREAM = "upstream"


def _meter() -> LoadMeter:
    return LoadMeter(queue_limit=100, calls_limit=1_000)


def _fails(meter: LoadMeter, times: int, *, now: float = 0) -> None:
    for _ in range(times):
        meter.note_attempt(now, upstream=_UPSTREAM, is_stream=True, has_failed=True, seconds=None)


def _answers(meter: LoadMeter, times: int, *, seconds: float, now: float = 0, is_stream: bool = True) -> None:
    for _ in range(times):
        meter.note_attempt(now, upstream=_UPSTREAM, is_stream=is_stream, has_failed=False, seconds=seconds)


# ---- the order of the classes


def test_interactive_goes_before_batch_and_paid_before_free() -> None:
    order = [
        priority_of(is_paid=is_paid, is_batch=is_batch)
        for is_batch, is_paid in ((True, False), (True, True), (False, False), (False, True))
    ]
    assert order == sorted(order) == list(Priority)
    thresholds = [THRESHOLDS[priority] for priority in order]
    assert thresholds == sorted(set(thresholds))


@pytest.mark.parametrize("priority", list(Priority))
def test_a_class_is_shed_from_its_threshold_on(priority: Priority) -> None:
    threshold = THRESHOLDS[priority]
    assert find_shed(priority, Pressure(threshold - 0.001, "queue")) is None
    shed = find_shed(priority, Pressure(threshold, "queue"))
    assert shed is not None
    assert shed.retry_after_seconds == 1


def test_the_fuller_it_is_the_longer_the_wait_and_never_over_a_minute() -> None:
    waits = []
    for value in (0.4, 0.5, 0.8, 1.0, 1_000_000.0):
        shed = find_shed(Priority.FREE_BATCH, Pressure(value, "queue"))
        assert shed is not None
        waits.append(shed.retry_after_seconds)
    assert waits == sorted(waits)
    assert waits[-1] == 60


# ---- what pressure is made of


def test_nothing_is_shed_from_an_idle_process() -> None:
    pressure = _meter().read(0, waiting=0, calls=1, upstreams=(_UPSTREAM,))
    assert all(find_shed(priority, pressure) is None for priority in Priority)


def test_the_fullest_of_queue_and_calls_counts() -> None:
    meter = _meter()
    assert meter.read(0, waiting=50, calls=100, upstreams=()) == Pressure(0.5, "queue")
    assert meter.read(0, waiting=5, calls=900, upstreams=()) == Pressure(0.9, "calls")


def test_a_call_with_somewhere_else_to_go_does_not_suffer_from_one_strained_upstream() -> None:
    meter = _meter()
    _fails(meter, 50)
    assert meter.read(0, waiting=0, calls=0, upstreams=(_UPSTREAM,)).value > 0.9
    assert meter.read(0, waiting=0, calls=0, upstreams=(_UPSTREAM, "another")).value == 0


def test_one_failure_is_no_strain() -> None:
    meter = _meter()
    _fails(meter, 1)
    assert meter.strain_of(0, _UPSTREAM) < min(THRESHOLDS.values())


def test_an_upstream_that_is_always_slow_is_not_strained() -> None:
    meter = _meter()
    for second in range(100):
        _answers(meter, 3, seconds=30, now=second)
    assert meter.strain_of(100, _UPSTREAM) == 0


def test_an_upstream_that_became_slow_is_strained() -> None:
    meter = _meter()
    for second in range(1_000):
        _answers(meter, 3, seconds=0.5, now=second)
    for second in range(1_000, 1_020):
        _answers(meter, 3, seconds=5, now=second)
    assert meter.strain_of(1_020, _UPSTREAM) > THRESHOLDS[Priority.FREE_INTERACTIVE]


def test_streams_and_whole_answers_are_not_compared_with_each_other() -> None:
    meter = _meter()
    for second in range(100):
        _answers(meter, 3, seconds=0.01, now=second, is_stream=False)
        _answers(meter, 3, seconds=1, now=second)
    assert meter.strain_of(100, _UPSTREAM) == 0


def test_strain_ends_by_itself_without_a_single_call() -> None:
    meter = _meter()
    _fails(meter, 100)
    values = [meter.strain_of(now, _UPSTREAM) for now in range(0, 200, 5)]
    assert values[0] > 0.9
    assert values == sorted(values, reverse=True)
    assert values[-1] == 0


def test_a_clock_that_stands_still_changes_nothing() -> None:
    strain = Strain(5)
    strain.note(5, has_failed=True, seconds=None)
    assert strain.read(5) == strain.read(4) == strain.read(5)


# ---- an hour of trouble in a simulation


def test_in_an_overload_the_paid_interactive_calls_get_through_and_then_everybody_again() -> None:
    """An upstream serves 50 calls a second and refuses what is above; four classes ask 30 times a second each.

    Ten seconds of a quarter of the load, two minutes of all of it, two minutes of a quarter again.
    """
    meter = _meter()
    served: Counter[tuple[str, Priority]] = Counter()
    asked: Counter[tuple[str, Priority]] = Counter()
    shed: Counter[tuple[str, Priority]] = Counter()
    recent: deque[float] = deque()
    for tick in range(250 * 120):
        now = tick / 120
        phase = "before" if now < 10 else "overload" if now < 130 else "after" if now < 190 else "calm"
        if phase != "overload" and tick % 4:
            continue
        priority = Priority((tick // (1 if phase == "overload" else 4)) % 4)
        asked[phase, priority] += 1
        if find_shed(priority, meter.read(now, waiting=0, calls=len(recent), upstreams=(_UPSTREAM,))):
            shed[phase, priority] += 1
            continue
        while recent and recent[0] <= now - 1:
            recent.popleft()
        if len(recent) < 50:
            recent.append(now)
            served[phase, priority] += 1
            _answers(meter, 1, seconds=0.5, now=now)
        else:
            _fails(meter, 1, now=now)
    share = {key: served[key] / asked[key] for key in asked}
    assert all(not shed["before", priority] for priority in Priority)
    # The upstream can take 50 of 120 a second; without shedding each class would get 42 %.
    assert share["overload", Priority.PAID_INTERACTIVE] > 0.7
    assert share["overload", Priority.FREE_BATCH] < 0.25
    ordered = [share["overload", priority] for priority in Priority]
    assert ordered == sorted(ordered)
    # What is below its capacity is served whole again, a few half-lives later.
    assert all(not shed["calm", priority] for priority in Priority), shed
    assert HALF_LIFE_SECONDS * 6 <= 60

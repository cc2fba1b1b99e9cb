"""Periodic work is claimed once by all who look, freed by the clock when they die, and missed slots are made up for."""

from datetime import UTC, datetime, timedelta

import pytest

from common.models import PeriodicJob
from common.periodic import Schedule, claim_job, finish_job, release_job

HOURLY = Schedule(every=timedelta(hours=1), offset=timedelta(minutes=6), lease=timedelta(minutes=10))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DUE = NOON + timedelta(minutes=6)


@pytest.mark.parametrize(
    ("schedule", "now", "expected"),
    [
        (HOURLY, NOON, DUE),
        (HOURLY, DUE, DUE + timedelta(hours=1)),
        (HOURLY, DUE - timedelta(microseconds=1), DUE),
        (
            Schedule(every=timedelta(days=1), offset=timedelta(hours=2)),
            NOON,
            datetime(2026, 11, 22, 2, tzinfo=UTC),
        ),
    ],
)
def test_slots_are_of_the_clock(schedule: Schedule, now: datetime, expected: datetime) -> None:
    assert schedule.next_after(now) == expected


def claim(now: datetime) -> bool:
    return claim_job("job", HOURLY, now=now)


@pytest.mark.django_db
def test_one_of_all_who_ask_gets_a_due_job_until_it_is_done() -> None:
    assert not claim(NOON)
    assert not claim(DUE - timedelta(seconds=1))
    assert [claim(DUE), claim(DUE), claim(DUE + timedelta(minutes=9))] == [True, False, False]
    finish_job("job", HOURLY, now=DUE + timedelta(minutes=1), is_ok=True, outcome="3 things done")
    job = PeriodicJob.objects.get()
    assert (job.is_ok, job.outcome, job.due_at, job.claimed_until) == (
        True,
        "3 things done",
        DUE + timedelta(hours=1),
        None,
    )
    assert not claim(DUE + timedelta(minutes=2))
    assert claim(DUE + timedelta(hours=1))


@pytest.mark.django_db
def test_a_claim_of_a_process_that_died_runs_out_and_one_given_back_is_due_at_once() -> None:
    claim(NOON)
    assert claim(DUE)
    assert claim(DUE + timedelta(minutes=10))
    release_job("job")
    assert claim(DUE + timedelta(minutes=11))


@pytest.mark.django_db
def test_slots_that_nobody_was_up_for_are_made_up_for_once() -> None:
    claim(NOON)
    late = DUE + timedelta(days=3)
    assert claim(late)
    finish_job("job", HOURLY, now=late, is_ok=True, outcome="")
    assert not claim(late)

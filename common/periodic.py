"""Work that comes again and again, done once for all processes and machines: whoever claims it first does it.

A row says when each job is due and who has it until when. A process that dies frees its claim by the clock, so a job
must be safe to repeat. Moments are slots of the clock (every hour at six minutes past), not of the process's start: a
server that was down does at its start what it missed, once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Q

from common.models import PeriodicJob

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OUTCOME_LENGTH = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a job is due: every so often, at an offset from 1970-01-01 00:00 UTC; and how long it may take."""

    every: timedelta
    offset: timedelta = timedelta()
    lease: timedelta = timedelta(minutes=10)

    def next_after(self, now: datetime) -> datetime:
        """Return the first slot after a moment."""
        passed = (now - _EPOCH - self.offset) // self.every
        return _EPOCH + self.offset + (passed + 1) * self.every


def claim_job(name: str, schedule: Schedule, *, now: datetime) -> bool:
    """Return True to exactly one of all who ask when the job is due; it is theirs until its lease has run out.

    The first time that a job is heard of, it is due at its next slot.
    """
    due = Q(due_at__lte=now) & (Q(claimed_until__isnull=True) | Q(claimed_until__lte=now))
    known = PeriodicJob.objects.filter(pk=name)
    # Looked at without a lock, because it is asked for every few seconds and is due once in an hour.
    row = known.values_list("due_at", flat=True).first()
    if row is None:
        PeriodicJob.objects.get_or_create(pk=name, defaults={"due_at": schedule.next_after(now)})
        return False
    if row > now:
        return False
    with transaction.atomic():
        return known.filter(due).update(claimed_until=now + schedule.lease, started_at=now) == 1


def finish_job(name: str, schedule: Schedule, *, now: datetime, is_ok: bool, outcome: str) -> None:
    """Write down how a claimed job went, and free it for its next slot."""
    PeriodicJob.objects.filter(pk=name).update(
        claimed_until=None,
        due_at=schedule.next_after(now),
        ended_at=now,
        is_ok=is_ok,
        outcome=outcome[:_OUTCOME_LENGTH],
    )


def release_job(name: str) -> None:
    """Give a claim back: the job is due as before, for whoever looks next."""
    PeriodicJob.objects.filter(pk=name).update(claimed_until=None)

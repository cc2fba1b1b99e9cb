"""What the server does from time to time beside serving: alerts, the close of months.

A thread of its own in the process that was started (the supervisor, where there is one), with a connection of its own:
calls neither wait for it nor know of it. Every job is safe to repeat and to run on several machines at once.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import close_old_connections, connections

from billing.alerts import notice_alerts, send_alerts
from billing.alerts.noticing import read_policy
from billing.invoicing.months import close_due_months

logger = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something to do again and again; the first time one interval after the start."""

    name: str
    every_seconds: float
    run: Callable[[], object]


def mail_alerts() -> None:
    """Notice and send alerts."""
    notice_alerts(datetime.now(UTC), read_policy())
    for result in send_alerts(datetime.now(UTC)):
        if result.problem:
            logger.warning("alert %s (%s): %s", result.alert_id, result.subject, result.problem)


def close_months() -> None:
    """Close months that are over, if settings ask for it."""
    for closed in close_due_months():
        if closed.problem:
            logger.warning("the month of customer %s was not closed: %s", closed.customer.public_id, closed.problem)
        else:
            logger.info("closed a month of customer %s: invoice %s", closed.customer.public_id, closed.invoice)


JOBS = (
    Job(name="alerts", every_seconds=60, run=mail_alerts),
    Job(name="months", every_seconds=3_600, run=close_months),
)


class PeriodicWork:
    """The thread; started and stopped by `manage.py serve`."""

    def __init__(self, jobs: Sequence[Job] = JOBS) -> None:
        self._jobs = jobs
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="periodic", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing any more, and give what runs a few seconds to end."""
        self._is_stopping.set()
        self._thread.join(timeout=_LOOK_EVERY_SECONDS)

    def _work(self) -> None:
        due = {job.name: time.monotonic() + job.every_seconds for job in self._jobs}
        while not self._is_stopping.wait(min(_LOOK_EVERY_SECONDS, *(job.every_seconds for job in self._jobs))):
            for job in self._jobs:
                if time.monotonic() >= due[job.name] and not self._is_stopping.is_set():
                    run_job(job)
                    due[job.name] = time.monotonic() + job.every_seconds
        connections.close_all()


def run_job(job: Job) -> None:
    """Run a job once; whatever happens to it, the next ones run."""
    close_old_connections()
    try:
        job.run()
    except Exception:
        logger.exception("the periodic job '%s' failed and will be tried again", job.name)
    finally:
        connections.close_all()

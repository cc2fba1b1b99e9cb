"""What the server does from time to time beside serving: alerts, sums, closed hours and months, exports, proof.

A thread of its own in the process that was started (the supervisor, where there is one) looks every few seconds which
jobs are due; each is done by one process of all (`common.periodic`), in a thread with a connection of its own. What
reads millions of rows in Python is a process of its own, of low priority: calls neither wait for it nor share its
interpreter.
"""

import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from django.conf import settings
from django.db import connections

from billing.alerts import notice_alerts, send_alerts
from billing.alerts.noticing import read_policy
from billing.export_models import ExportSchedule
from billing.invoicing.months import close_due_months
from billing.postings import post_hours
from billing.usage_days import roll_up_usage
from common.money import format_usd
from common.periodic import Schedule, claim_job, finish_job, release_job
from common.wording import counted

logger = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 5.0
_LOWER_PRIORITY = 10
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class JobFailed(Exception):
    """A job could not do its work; the sentence says why."""


class JobStopped(Exception):
    """The server is going down; whoever is up next does the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something to do again and again. `run` returns how it went, in a sentence, and ends early when told to stop."""

    name: str
    purpose: str
    schedule: Schedule
    run: Callable[[threading.Event], str]
    is_wanted: Callable[[], bool] = lambda: True


def mail_alerts(_stopping: threading.Event) -> str:
    """Notice and send alerts."""
    notice_alerts(datetime.now(UTC), read_policy())
    results = list(send_alerts(datetime.now(UTC)))
    problems = [result for result in results if result.problem]
    for result in problems:
        logger.warning("alert %s (%s): %s", result.alert_id, result.subject, result.problem)
    if problems:
        raise JobFailed(f"{counted(len(problems), 'alert')} of {len(results)} could not be sent: {problems[0].problem}")
    return f"{counted(len(results), 'alert')} sent."


def sum_usage(_stopping: threading.Event) -> str:
    """Add new usage to the sums that pages read."""
    return f"{counted(roll_up_usage(), 'record')} added."


def post_closed_hours(_stopping: threading.Event) -> str:
    """Book provider cost and suspense of closed hours."""
    posted = post_hours()
    return (
        f"Provider cost {format_usd(posted.provider_cost_nanousd)} USD, "
        f"set aside {format_usd(posted.suspense_nanousd)} USD."
    )


def close_months(_stopping: threading.Event) -> str:
    """Close months that are over, where settings ask for it."""
    results = close_due_months()
    problems = [closed for closed in results if closed.problem]
    for closed in problems:
        logger.warning("the month of customer %s was not closed: %s", closed.customer.public_id, closed.problem)
    if problems:
        raise JobFailed(f"{counted(len(problems), 'month')} of {len(results)} not closed: {problems[0].problem}")
    return f"{counted(len(results), 'month')} closed."


def run_command(name: str, stopping: threading.Event) -> str:
    """Run `manage.py name` and return the last line that it wrote.

    Raises JobFailed where it ends with anything but 0, JobStopped where it was told to stop.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, str(settings.BASE_DIR / "manage.py"), name],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, _LOWER_PRIORITY)
        while process.poll() is None:
            if stopping.wait(0.2):
                process.terminate()
                process.wait()
                raise JobStopped
        output.seek(0)
        lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "It wrote nothing."
    if process.returncode != 0:
        raise JobFailed(last)
    return last


JOBS = (
    Job(
        name="alerts",
        purpose="Notices reached thresholds of budgets and low balances, and mails them.",
        schedule=Schedule(every=_MINUTE),
        run=mail_alerts,
    ),
    Job(
        name="usage-sums",
        purpose="Adds new usage to the sums by the day that Spend and Finance read.",
        schedule=Schedule(every=_MINUTE, offset=timedelta(seconds=30)),
        run=sum_usage,
    ),
    Job(
        name="closed-hours",
        purpose="Books provider cost and suspense of closed hours (manage.py post_hours).",
        # An hour is posted once it has been quiet for five minutes.
        schedule=Schedule(every=_HOUR, offset=timedelta(minutes=6)),
        run=post_closed_hours,
    ),
    Job(
        name="months",
        purpose="Closes months that are over into invoices, where INVOICE_CLOSING says so (manage.py close_period).",
        schedule=Schedule(every=_HOUR, offset=timedelta(minutes=12), lease=timedelta(hours=6)),
        run=close_months,
        is_wanted=lambda: settings.ENVIRONMENT.invoice_closing != "off",
    ),
    Job(
        name="exports",
        purpose="Writes the files of export schedules, a closed day each (manage.py export_scheduled).",
        # A day is closed once no call that began in it is running.
        schedule=Schedule(every=_HOUR, offset=timedelta(minutes=17), lease=timedelta(hours=6)),
        run=partial(run_command, "export_scheduled"),
        is_wanted=lambda: ExportSchedule.objects.filter(is_active=True).exists(),
    ),
    Job(
        name="reconciliation",
        purpose="Proves the books every night and keeps the result (manage.py reconcile).",
        schedule=Schedule(every=_DAY, offset=timedelta(hours=2, minutes=20), lease=timedelta(hours=6)),
        run=partial(run_command, "reconcile"),
        is_wanted=lambda: settings.ENVIRONMENT.nightly_reconcile == "on",
    ),
    Job(
        name="retention",
        purpose="Archives usage that is older than RETENTION_DAYS (manage.py retention).",
        schedule=Schedule(every=_DAY, offset=timedelta(hours=3, minutes=40), lease=timedelta(hours=6)),
        run=partial(run_command, "retention"),
        is_wanted=lambda: settings.ENVIRONMENT.retention_days > 0,
    ),
)


class PeriodicWork:
    """The thread that looks; started and stopped by `manage.py serve`."""

    def __init__(self, jobs: Sequence[Job] = JOBS) -> None:
        self._jobs = jobs
        self._is_stopping = threading.Event()
        self._looking = threading.Thread(target=self._look, name="periodic", daemon=True)
        self._running: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        self._looking.start()

    def stop(self) -> None:
        """Begin nothing any more, and give what runs a few seconds to end."""
        self._is_stopping.set()
        for thread in (self._looking, *self._running):
            thread.join(timeout=_LOOK_EVERY_SECONDS)

    def _look(self) -> None:
        while not self._is_stopping.wait(_LOOK_EVERY_SECONDS):
            self._running = [thread for thread in self._running if thread.is_alive()]
            try:
                for job in claim_due_jobs(self._jobs, now=datetime.now(UTC)):
                    thread = threading.Thread(target=self._run, args=(job,), name=f"periodic-{job.name}", daemon=True)
                    self._running.append(thread)
                    thread.start()
            except Exception:
                logger.exception("cannot see which periodic jobs are due; trying again")
            finally:
                connections.close_all()

    def _run(self, job: Job) -> None:
        try:
            run_job(job, self._is_stopping)
        except Exception:
            logger.exception("the periodic job '%s' could not be written down; its claim will run out", job.name)
        finally:
            connections.close_all()


def claim_due_jobs(jobs: Sequence[Job], *, now: datetime) -> list[Job]:
    """Return the jobs that are due and wanted here, which are the caller's to run from now on."""
    return [job for job in jobs if job.is_wanted() and claim_job(job.name, job.schedule, now=now)]


def run_job(job: Job, stopping: threading.Event) -> None:
    """Run a claimed job and write down how it went; whatever happens to it, it comes again."""
    try:
        outcome, is_ok = job.run(stopping), True
    except JobStopped:
        release_job(job.name)
        return
    except JobFailed as error:
        logger.warning("the periodic job '%s' failed: %s", job.name, error)
        outcome, is_ok = str(error), False
    except Exception as error:
        logger.exception("the periodic job '%s' failed and will be tried again", job.name)
        outcome, is_ok = f"{type(error).__name__}: {error}", False
    finish_job(job.name, job.schedule, now=datetime.now(UTC), is_ok=is_ok, outcome=outcome)

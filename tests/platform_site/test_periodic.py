"""What the server does by itself is done, written down and shown; a failure is told and ends nothing."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from billing.export_models import ExportSchedule
from billing.models import Transfer
from common.models import PeriodicJob
from common.periodic import Schedule
from platform_site.periodic import JOBS, Job, JobFailed, JobStopped, claim_due_jobs, run_command, run_job
from tests.billing.test_money_admin import make_usage

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
IN_PROCESS = {"alerts", "usage-sums", "closed-hours"}


def run_due(jobs: tuple[Job, ...]) -> dict[str, PeriodicJob]:
    """Let the jobs be due, run them, and return their rows by name."""
    claim_due_jobs(jobs, now=NOW)
    for job in claim_due_jobs(jobs, now=NOW + timedelta(days=2)):
        run_job(job, threading.Event())
    return {row.name: row for row in PeriodicJob.objects.all()}


def job_of(outcome: Any) -> Job:
    def run(_stopping: threading.Event) -> str:
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    return Job(name="job", purpose="", schedule=Schedule(every=timedelta(hours=1)), run=run)


def test_the_jobs_of_the_server_do_what_their_commands_do(admin_client: Client) -> None:
    make_usage(provider_cost_nanousd=42, settled_at=NOW - timedelta(days=1))
    rows = run_due(tuple(job for job in JOBS if job.name in IN_PROCESS))
    assert {name: row.is_ok for name, row in rows.items()} == dict.fromkeys(IN_PROCESS, True)
    assert rows["usage-sums"].outcome == "1 record added."
    assert rows["closed-hours"].outcome.startswith("Provider cost 0.000000042 USD")
    assert Transfer.objects.filter(reference__startswith="cost:").count() == 1
    page = admin_client.get("/admin/common/periodicjob/").content.decode()
    assert "1 record added." in page
    assert "Books provider cost and suspense" in page


@pytest.mark.parametrize(
    ("outcome", "is_ok", "told"),
    [("done", True, "done"), (JobFailed("no paper"), False, "no paper"), (KeyError("x"), False, "KeyError: 'x'")],
)
def test_how_a_job_went_is_written_down_and_it_comes_again(outcome: Any, is_ok: bool, told: str) -> None:
    row = run_due((job_of(outcome),))["job"]
    assert (row.is_ok, row.outcome, row.claimed_until) == (is_ok, told, None)
    assert row.due_at > datetime.now(UTC)


def test_what_the_end_of_the_server_interrupts_is_due_for_the_next_one() -> None:
    row = run_due((job_of(JobStopped()),))["job"]
    assert (row.is_ok, row.claimed_until, row.due_at < NOW + timedelta(days=1)) == (None, None, True)


def test_what_is_not_wanted_here_is_left_to_others(settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"nightly_reconcile": "off", "retention_days": 0})
    claim_due_jobs(JOBS, now=NOW)
    assert set(PeriodicJob.objects.values_list("name", flat=True)) == IN_PROCESS
    everything = {"nightly_reconcile": "on", "retention_days": 400, "invoice_closing": "draft"}
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=everything)
    ExportSchedule.objects.create(name="daily", content="usage", format="csv", first_day=NOW.date())
    claim_due_jobs(JOBS, now=NOW)
    assert PeriodicJob.objects.count() == len(JOBS)


def test_a_command_of_its_own_process_tells_its_last_line_and_stops_when_told() -> None:
    assert run_command("version", threading.Event()).startswith("5.")
    with pytest.raises(JobFailed, match="for usage"):
        run_command("no_such_command", threading.Event())
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(JobStopped):
        run_command("version", stopping)

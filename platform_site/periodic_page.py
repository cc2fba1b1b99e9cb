"""The page "Periodic work": what the server does by itself, when it last did, and how it went."""

from django.contrib import admin
from django.utils.safestring import SafeString

from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import badge, utc_column
from common.models import PeriodicJob
from platform_site.periodic import JOBS

_PURPOSES = {job.name: job.purpose for job in JOBS}


@admin.register(PeriodicJob)
class PeriodicJobAdmin(ReadOnlyModelAdmin[PeriodicJob]):
    list_display = ("name", "state", "started", "took", "outcome", "due", "purpose")
    ordering = ("name",)
    fields = ("name", "purpose", "state", "started", "took", "outcome", "due")

    started = utc_column("started_at", "Last begun")
    due = utc_column("due_at", "Due")

    @admin.display(description="State")
    def state(self, job: PeriodicJob) -> SafeString:
        if job.claimed_until is not None:
            return badge("Runs", "info")
        if job.is_ok is None:
            return badge("Not run yet", "neutral")
        return badge("Done", "success") if job.is_ok else badge("Failed", "danger")

    @admin.display(description="Took")
    def took(self, job: PeriodicJob) -> str:
        if job.started_at is None or job.ended_at is None or job.ended_at < job.started_at:
            return "-"
        return f"{(job.ended_at - job.started_at).total_seconds():,.1f} s"

    @admin.display(description="What it does")
    def purpose(self, job: PeriodicJob) -> str:
        return _PURPOSES.get(job.name, "Not known to this version.")

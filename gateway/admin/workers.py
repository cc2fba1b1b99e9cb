"""Server processes that hold calls."""

from datetime import UTC, datetime

from django.contrib import admin
from django.utils.safestring import SafeString

from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import badge, utc
from common.clock import from_us, to_us
from gateway.models import Worker


@admin.register(Worker)
class WorkerAdmin(ReadOnlyModelAdmin[Worker]):
    list_display = ("id", "host", "pid", "state", "started", "lease_until")
    fields = ("id", "host", "pid", "state", "started", "lease_until")
    ordering = ("-id",)

    @admin.display(description="State")
    def state(self, worker: Worker) -> SafeString:
        if worker.lease_until_us > to_us(datetime.now(UTC)):
            return badge("Alive", "success")
        return badge("Gone", "neutral", title="Its lease has run out; its open holds expire with the next call.")

    @admin.display(description="Started")
    def started(self, worker: Worker) -> SafeString | str:
        return utc(from_us(worker.started_us))

    @admin.display(description="Lease until")
    def lease_until(self, worker: Worker) -> SafeString | str:
        return "given up" if worker.lease_until_us == 0 else utc(from_us(worker.lease_until_us))

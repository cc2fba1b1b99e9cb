"""Reconciliations in the admin: when the books were compared with what, and every difference that was found."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from billing.finance_models import ReconciliationKind, ReconciliationRun
from common.admin_base import PanelModelAdmin
from common.admin_display import badge, code, utc_column
from common.admin_pages import Panel

_MOST_LISTED = 200


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(PanelModelAdmin[ReconciliationRun]):
    list_display = ("created", "what", "result", "differences", "seconds")
    list_display_links = ("created",)
    list_filter = (("kind", ChoicesDropdownFilter),)
    ordering = ("-created_at", "-id")
    list_before_template = "billing/admin/reconciliation_note.html"  # type: ignore[assignment]
    fields = ("created", "what", "result", "differences", "seconds", "digest")

    created = utc_column("created_at", "Time (UTC)", zone="")

    @admin.display(description="Compared")
    def what(self, run: ReconciliationRun) -> str:
        kind = ReconciliationKind(run.kind)
        return f"{kind.label}: {run.source}" if run.source else kind.label

    @admin.display(description="Result")
    def result(self, run: ReconciliationRun) -> SafeString:
        return badge("no difference", "success") if run.is_clean else badge("differs", "danger")

    @admin.display(description="Differences")
    def differences(self, run: ReconciliationRun) -> str:
        is_truncated = any(check["is_truncated"] for check in run.report["checks"])
        return f"{'more than ' if is_truncated else ''}{run.difference_count:,}"

    @admin.display(description="Took")
    def seconds(self, run: ReconciliationRun) -> str:
        return f"{run.duration_ms / 1000:.1f} s"

    @admin.display(description="SHA-256 of the file")
    def digest(self, run: ReconciliationRun) -> SafeString | str:
        return code(run.sha256) if run.sha256 else "-"

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        last = ReconciliationRun.objects.filter(kind=ReconciliationKind.BOOKS).order_by("-created_at", "-id").first()
        return super().changelist_view(request, {"last_run": last, **(extra_context or {})})

    @override
    def read_panels(self, row: ReconciliationRun) -> list[Panel]:
        return _panels(row)


def _panels(run: ReconciliationRun) -> list[Panel]:
    checks = run.report["checks"]
    found = [(check, difference) for check in checks for difference in check["differences"]]
    hidden = len(found) - _MOST_LISTED
    return [
        Panel(
            title="Checks",
            headers=("Check", "What it says", "Examined", "Result"),
            rows=[
                (
                    check["name"],
                    check["claim"],
                    f"{check['examined']:,}",
                    badge("ok", "success")
                    if check["is_clean"]
                    else badge(f"{len(check['differences']):,} differences", "danger"),
                )
                for check in checks
            ],
            empty="",
        ),
        Panel(
            title="Differences",
            headers=("Check", "Row", "What", "Expected", "Found"),
            rows=[
                (check["name"], entry["row"], entry["what"], entry["expected"], entry["found"])
                for check, entry in found[:_MOST_LISTED]
            ],
            note=f"{hidden:,} more were listed by the command." if hidden > 0 else "",
            empty="None: everything follows from the rows, to the nano-dollar.",
        ),
    ]

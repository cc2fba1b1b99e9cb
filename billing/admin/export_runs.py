"""Exports that were made, each with what is needed to prove a copy of its file."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter

from billing.admin.export_page import allowed_datasets, export_period
from billing.admin.filters import UtcRangeFilter
from billing.export_models import ExportRun
from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import admin_link, admin_url, badge, code, number, short_code, usd_column, utc, utc_column


@admin.register(ExportRun)
class ExportRunAdmin(ReadOnlyModelAdmin[ExportRun]):
    list_display = ("created", "file", "period", "customer_link", "rows", "total", "checksum", "state", "made_by")
    list_display_links = ("created",)
    list_filter = (
        ("created_at", UtcRangeFilter),
        ("dataset", ChoicesDropdownFilter),
        ("format", ChoicesDropdownFilter),
        ("customer", AutocompleteSelectFilter),
        ("schedule", AutocompleteSelectFilter),
    )
    list_select_related = ("customer", "schedule")
    search_fields = ("public_id__exact", "sha256__exact")
    search_help_text = "Export id (exp_…) or the whole SHA-256 of a file"
    ordering = ("-created_at", "-id")
    list_before_template = "billing/admin/export_note.html"  # type: ignore[assignment]
    fields = (
        "public_id",
        "created",
        "file",
        "audience",
        "period",
        "customer_link",
        "state",
        "rows",
        "total",
        "bytes",
        "whole_checksum",
        "made_by",
        "schedule_link",
        "location",
    )

    created = utc_column("created_at", "Made (UTC)", zone="")
    total = usd_column("total_nanousd", "Sum (USD)")

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = {"export_url": admin_url("billing.exportrun", "export") if allowed_datasets(request) else ""}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @override
    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (("export/", "billing_exportrun_export", export_period),)

    @admin.display(description="File")
    def file(self, run: ExportRun) -> str:
        return f"{run.dataset.capitalize()}, {run.get_format_display()}"

    @admin.display(description="Rows from … to before (UTC)")
    def period(self, run: ExportRun) -> SafeString:
        return SafeString(f"{utc(run.range_start, zone='')} to<br>{utc(run.range_end, zone='')}")

    @admin.display(description="Customer")
    def customer_link(self, run: ExportRun) -> SafeString | str:
        return "all" if run.customer is None else admin_link("keys.customer", run.customer.pk, run.customer.name)

    @admin.display(description="Rows")
    def rows(self, run: ExportRun) -> SafeString | str:
        return number(run.row_count)

    @admin.display(description="Bytes")
    def bytes(self, run: ExportRun) -> SafeString | str:
        return number(run.byte_count)

    @admin.display(description="SHA-256")
    def checksum(self, run: ExportRun) -> SafeString:
        return short_code(run.sha256)

    @admin.display(description="SHA-256 (sha256sum FILE gives the same)")
    def whole_checksum(self, run: ExportRun) -> SafeString:
        return code(run.sha256)

    @admin.display(description="Range")
    def state(self, run: ExportRun) -> SafeString:
        if run.is_closed:
            return badge("Closed", "success", title="All its rows were there: it can be repeated to the byte.")
        return badge("Open", "warning", title="Rows could still join the range: another run may hold more.")

    @admin.display(description="Made by")
    def made_by(self, run: ExportRun) -> str:
        return f"{run.author} (again, {run.revision})" if run.revision else run.author

    @admin.display(description="Schedule")
    def schedule_link(self, run: ExportRun) -> SafeString | str:
        schedule = run.schedule
        return "-" if schedule is None else admin_link("billing.exportschedule", schedule.pk, schedule.name)

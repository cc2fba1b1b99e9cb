"""Downloads: a period of usage or ledger as `manage.py export` writes it, or what a list shows.

The first is the record to keep: complete, reproducible, with stable ids only. The second is for a look in a
spreadsheet: what the filter found, with the names that the list has.
"""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminSingleDateWidget

from billing.exports import export_rows
from billing.models import UsageRecord
from common.admin_display import admin_url
from common.admin_pages import FormPage, run_form_page
from common.money import format_usd
from common.streaming import stream_csv

_ROWS_A_READ = 2_000
_COLUMNS = (
    "request_id",
    "sequence",
    "started_at",
    "settled_at",
    "customer",
    "key_prefix",
    "operation",
    "model",
    "upstream",
    "status",
    "source",
    "error_code",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cost_usd",
    "charged_usd",
    "price_version",
    "ttft_ms",
    "total_ms",
    "flags",
)


class PeriodForm(forms.Form):
    """Which rows, of which days."""

    kind = forms.ChoiceField(
        choices=[("usage", "Usage: one line a call"), ("ledger", "Ledger: one line a transfer")],
        widget=UnfoldAdminRadioSelectWidget(),
    )
    first_day = forms.DateField(widget=UnfoldAdminSingleDateWidget(), help_text="UTC, included.")
    last_day = forms.DateField(widget=UnfoldAdminSingleDateWidget(), help_text="UTC, included.")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("first_day") and data.get("last_day") and data["first_day"] > data["last_day"]:
            self.add_error("last_day", "The last day lies before the first.")
        return data

    def bounds(self) -> tuple[datetime, datetime]:
        """Return the period as moments: start included, end excluded."""
        first, last = self.cleaned_data["first_day"], self.cleaned_data["last_day"]
        start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, last))
        return start, end + timedelta(days=1)


def export_period(request: HttpRequest, model_admin: Any) -> HttpResponseBase:
    """Ask for a period and answer with its file."""
    if not model_admin.has_export_permission(request):
        raise PermissionDenied
    today = datetime.now(UTC).date()
    initial = {"kind": request.GET.get("kind", "usage"), "first_day": today.replace(day=1), "last_day": today}
    form = PeriodForm(request.POST or None, initial=initial)

    def act() -> HttpResponseBase:
        kind = form.cleaned_data["kind"]
        start, end = form.bounds()
        filename = f"tollkeeper-{kind}-{form.cleaned_data['first_day']}-{form.cleaned_data['last_day']}.csv"
        return stream_csv(request, export_rows(kind, start=start, end=end), filename=filename)

    page = FormPage(
        title="Export a period",
        submit_label="Download CSV",
        cancel_url=admin_url("billing.usagerecord", "changelist"),
        intro="The same lines as 'manage.py export'. Amounts are exact decimals in USD, moments are UTC.",
    )
    return run_form_page(model_admin, request, page, form, act=act)


def stream_records(request: HttpRequest, records: QuerySet[UsageRecord]) -> HttpResponseBase:
    """Return the given usage records as CSV, oldest first."""
    ordered = records.select_related("customer", "api_key").order_by("started_at", "id")
    filename = f"tollkeeper-usage-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
    return stream_csv(request, _lines(ordered), filename=filename)


def _lines(records: QuerySet[UsageRecord]) -> Iterator[str]:
    yield _line(_COLUMNS)
    for record in records.iterator(chunk_size=_ROWS_A_READ):
        yield _line(tuple(_cell(record, column) for column in _COLUMNS))


def _cell(record: UsageRecord, column: str) -> object:
    match column:
        case "customer":
            return record.customer.name
        case "key_prefix":
            return record.api_key.prefix
        case "price_version":
            return record.price_version_id
        case "cost_usd":
            return format_usd(record.cost_nanousd)
        case "charged_usd":
            return format_usd(record.charged_nanousd)
        case "started_at" | "settled_at":
            moment: datetime = getattr(record, column)
            return moment.isoformat().replace("+00:00", "Z")
        case _:
            return getattr(record, column)


def _line(cells: tuple[object, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(_harmless(cell) for cell in cells)
    return buffer.getvalue()


def _harmless(cell: object) -> object:
    """Return a text that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell

"""The page that exports a period: the same files as `manage.py export` writes, recorded like them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminSelect2Widget, UnfoldAdminSingleDateWidget

from billing.export_models import ExportDataset, ExportFormat
from billing.exports import make_order, make_selection, start_download
from common.admin_display import admin_url
from common.admin_pages import FormPage, run_form_page
from common.streaming import stream_file
from keys.models import Customer

# Whoever may look at the rows may take them away.
_PERMISSIONS: Mapping[str, str] = {
    ExportDataset.USAGE: "billing.view_usagerecord",
    ExportDataset.LEDGER: "billing.view_transfer",
    ExportDataset.INVOICES: "billing.view_invoice",
}


class PeriodForm(forms.Form):
    """Which rows, of which days, in which format."""

    dataset = forms.ChoiceField(widget=UnfoldAdminRadioSelectWidget())
    format = forms.ChoiceField(
        choices=ExportFormat.choices,
        widget=UnfoldAdminRadioSelectWidget(),
        help_text="FOCUS is for usage, beancount for the ledger, CloudEvents for both; the others hold all. "
        "Excel is for reading, the others are exact to the last digit and the same in every run.",
    )
    first_day = forms.DateField(widget=UnfoldAdminSingleDateWidget(), help_text="UTC, included.")
    last_day = forms.DateField(widget=UnfoldAdminSingleDateWidget(), help_text="UTC, included.")
    customer = forms.ModelChoiceField(
        queryset=Customer.objects.order_by("name", "id"),
        required=False,
        widget=UnfoldAdminSelect2Widget(),
        empty_label="All customers",
    )

    def __init__(self, *args: Any, datasets: list[ExportDataset], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["dataset"].choices = [(d.value, d.label) for d in datasets]  # type: ignore[attr-defined]

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


def allowed_datasets(request: HttpRequest) -> list[ExportDataset]:
    """Return what this user may export."""
    return [dataset for dataset in ExportDataset if request.user.has_perm(_PERMISSIONS[dataset])]


def export_period(request: HttpRequest, model_admin: Any) -> HttpResponseBase:
    """Ask for a period and answer with its file."""
    datasets = allowed_datasets(request)
    if not datasets:
        raise PermissionDenied
    today = datetime.now(UTC).date()
    initial = {
        "dataset": request.GET.get("dataset", datasets[0].value),
        "format": ExportFormat.CSV.value,
        "first_day": today.replace(day=1),
        "last_day": today,
    }
    form = PeriodForm(request.POST or None, initial=initial, datasets=datasets)

    def act() -> HttpResponseBase:
        start, end = form.bounds()
        customer = form.cleaned_data["customer"]
        selection = make_selection(
            form.cleaned_data["dataset"], start=start, end=end, customer_id=None if customer is None else customer.pk
        )
        order = make_order(selection, format_name=form.cleaned_data["format"], author=request.user.get_username())
        chunks = start_download(order).chunks
        return stream_file(request, chunks, filename=order.filename, media_type=order.format.media_type)

    page = FormPage(
        title="Export a period",
        submit_label="Download",
        cancel_url=admin_url("billing.exportrun", "changelist"),
        intro="The same file as from 'manage.py export'. Each one is recorded with its rows, sum and SHA-256, so that "
        "a copy can be proved later. Amounts are exact decimals in USD, moments are UTC.",
    )
    return run_form_page(model_admin, request, page, form, act=act)

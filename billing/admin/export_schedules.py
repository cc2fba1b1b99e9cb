"""Exports of every day: what is written where, and how far it has come."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Max
from django.http import HttpRequest
from django.utils.safestring import SafeString
from typing_extensions import override

from billing.errors import ExportDestinationInvalid, ExportInvalid
from billing.export_models import ExportRun, ExportSchedule
from billing.exports.scheduling import check_schedule
from common.admin_base import PlatformModelAdmin, page_facts
from common.admin_display import admin_link, badge


class ScheduleForm(forms.ModelForm[ExportSchedule]):
    """Refuses what could never run, at the field that is wrong."""

    class Meta:
        model = ExportSchedule
        fields = ("name", "content", "format", "customer", "destination", "first_day", "is_active")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        # Fields that are only shown, once there are runs, are not in the form: the row has them.
        chosen = {name: data.get(name, getattr(self.instance, name)) for name in ("content", "format", "customer")}
        if "destination" not in data or not (chosen["content"] and chosen["format"]):
            return data
        try:
            check_schedule(
                dataset=chosen["content"],
                format_name=chosen["format"],
                customer_id=None if chosen["customer"] is None else chosen["customer"].pk,
                destination=data["destination"],
            )
        except (ExportInvalid, ExportDestinationInvalid) as error:
            raise ValidationError(error.message if error.param not in data else {error.param: error.message}) from None
        return data


@admin.register(ExportSchedule)
class ExportScheduleAdmin(PlatformModelAdmin[ExportSchedule]):
    form = ScheduleForm
    # In this order also when most of them are only shown.
    fields = ScheduleForm.Meta.fields
    list_display = ("name", "file", "customer_link", "place", "first_day", "last_exported", "state")
    list_select_related = ("customer",)
    search_fields = ("name",)
    ordering = ("name", "id")
    list_before_template = "billing/admin/schedule_note.html"  # type: ignore[assignment]
    autocomplete_fields = ("customer",)

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Its files and runs say what they are; another content is another schedule.
        has_runs = obj is not None and ExportRun.objects.filter(schedule=obj).exists()
        return ("name", "content", "format", "customer", "first_day") if has_runs else ()

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and ExportRun.objects.filter(schedule=obj).exists():
            return False
        return super().has_delete_permission(request, obj)

    @override
    def read_page_facts(self, rows: Sequence[ExportSchedule]) -> Mapping[Any, object]:
        runs = ExportRun.objects.filter(schedule__in=rows).values("schedule").annotate(last=Max("range_start"))
        return {run["schedule"]: run["last"].date() for run in runs.order_by("schedule")}

    @admin.display(description="File")
    def file(self, schedule: ExportSchedule) -> str:
        return f"{schedule.content.capitalize()}, {schedule.get_format_display()}"

    @admin.display(description="Customer")
    def customer_link(self, schedule: ExportSchedule) -> SafeString | str:
        customer = schedule.customer
        return "all" if customer is None else admin_link("keys.customer", customer.pk, customer.name)

    @admin.display(description="Written to")
    def place(self, schedule: ExportSchedule) -> str:
        return schedule.destination or "EXPORT_DIR"

    @admin.display(description="Last day exported")
    def last_exported(self, schedule: ExportSchedule) -> str:
        last = page_facts(schedule)
        return "none yet" if last is None else f"{last}"

    @admin.display(description="State")
    def state(self, schedule: ExportSchedule) -> SafeString:
        if not schedule.is_active:
            return badge("Off", "neutral", title="Nothing is exported until it is switched on again.")
        last, yesterday = page_facts(schedule), datetime.now(UTC).date() - timedelta(days=1)
        if (last is not None and last >= yesterday) or schedule.first_day > yesterday:
            return badge("Up to date", "success")
        return badge("Due", "warning", title="A server does it within the hour; 'manage.py export_scheduled' at once.")

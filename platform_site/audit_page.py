"""The audit trail in the admin: found by who, what, when and about which object; exported as CSV."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.urls import NoReverseMatch
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter

from billing.admin.filters import RecentFilter, UtcRangeFilter
from common.admin_audit import VIEW_TRAIL, describe_changes
from common.admin_display import Tone, admin_link, admin_url, badge, code, utc_column
from common.admin_keyset import Keyset, KeysetModelAdmin
from common.streaming import csv_line, stream_csv
from keys.models import ActorKind, AuditEvent

_ROWS_A_READ = 2_000
_LONGEST_CHANGES = 160
_LOOKED_THROUGH = 5_000
_COLUMNS = (
    "id",
    "created_at",
    "actor_kind",
    "actor_id",
    "actor_name",
    "address",
    "action",
    "object_kind",
    "object_id",
    "object_name",
    "before",
    "after",
    "reason",
)
_ACTOR_TONES: dict[str, Tone] = {
    ActorKind.ADMIN: "info",
    ActorKind.KEY: "neutral",
    ActorKind.COMMAND: "warning",
    ActorKind.SYSTEM: "neutral",
    ActorKind.STRANGER: "danger",
}


class AboutFilter(DropdownFilter):
    """The entries about one object ("keys.apikey:12"); reached by links from its page, so it offers only that one."""

    title = "object"
    parameter_name = "about"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # Django leaves out a filter that offers nothing, and then does not apply it either.
        chosen = self.value()
        return [(chosen, chosen)] if chosen else []

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> QuerySet[AuditEvent]:
        kind, _, object_id = (self.value() or "").partition(":")
        return queryset.filter(object_kind=kind, object_id=object_id) if kind else queryset


class RecentEventsFilter(RecentFilter):
    """The last days; all of time for one object, whose entries are found by their own index."""

    column = "created_at"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self._is_about_one = bool(request.GET.get(AboutFilter.parameter_name))
        return super().lookups(request, model_admin)

    @override
    def value(self) -> str | None:
        return "all" if self._is_about_one else super().value()


def _recent_values(column: str, chosen: str | None) -> list[str]:
    """Return what the newest entries have in a column: all of a trail of years would take seconds to look through."""
    newest = AuditEvent.objects.order_by("-created_at").values_list(column, flat=True)[:_LOOKED_THROUGH]
    return sorted({*newest, *([chosen] if chosen else [])})


class ActionFilter(DropdownFilter):
    """By what was done."""

    title = "action"
    parameter_name = "action"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in _recent_values("action", self.value())]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(action=chosen) if chosen else queryset


class ObjectKindFilter(DropdownFilter):
    """By the kind of thing that it was done to."""

    title = "kind of object"
    parameter_name = "object_kind"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind) for kind in _recent_values("object_kind", self.value())]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(object_kind=chosen) if chosen else queryset


@admin.register(AuditEvent)
class AuditEventAdmin(KeysetModelAdmin[AuditEvent]):
    keyset = Keyset(moment="created_at", indexed_filters=frozenset({AboutFilter.parameter_name}))
    list_display = ("created", "action_code", "actor", "address", "thing", "changes_and_reason")
    list_display_links = ("created",)
    list_filter = (
        RecentEventsFilter,
        ("created_at", UtcRangeFilter),
        ActionFilter,
        ObjectKindFilter,
        ("actor_kind", ChoicesDropdownFilter),
        AboutFilter,
    )
    search_fields = ("actor_name", "object_name", "object_id__exact", "action", "reason", "address")
    search_help_text = "Who, object's name or id, action, reason or address"
    ordering = ("-created_at", "-id")
    list_before_template = "platform_site/audit_note.html"  # type: ignore[assignment]
    fields = (
        "created",
        "action_code",
        "actor",
        "actor_id",
        "address",
        "thing",
        "object_kind",
        "object_id",
        "values",
        "reason",
    )

    created = utc_column("created_at", "Time (UTC)", zone="")

    @admin.display(description="What was done")
    def action_code(self, event: AuditEvent) -> SafeString:
        return code(event.action)

    @admin.display(description="Who")
    def actor(self, event: AuditEvent) -> SafeString:
        kind = ActorKind(event.actor_kind)
        return format_html("{} {}", event.actor_name, badge(kind.label, _ACTOR_TONES[kind]))

    @admin.display(description="To what")
    def thing(self, event: AuditEvent) -> SafeString | str:
        if not event.object_id:
            return event.object_name or "-"
        try:
            return admin_link(event.object_kind, event.object_id, event.object_name)
        except NoReverseMatch:  # a kind of thing that has no page, or had one in an earlier version
            return event.object_name

    @admin.display(description="Changes, and why")
    def changes_and_reason(self, event: AuditEvent) -> SafeString:
        texts = [describe_changes(event.before, event.after), f"Why: {event.reason}" if event.reason else ""]
        shown = [(_shorten(text),) for text in texts if text] or [("-",)]
        return format_html('<span class="tk-sentence">{}</span>', format_html_join(SafeString("<br>"), "{}", shown))

    @admin.display(description="Before and after")
    def values(self, event: AuditEvent) -> SafeString | str:
        names = list(dict.fromkeys((*event.before, *event.after)))
        if not names:
            return "-"
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            ((code(name), _cell(event.before, name), _cell(event.after, name)) for name in names),
        )
        return format_html(
            '<table class="tk-table"><thead><tr><th>What</th><th>Before</th><th>After</th></tr></thead>'
            "<tbody>{}</tbody></table>",
            rows,
        )

    # ---- export

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        query = request.GET.urlencode()
        url = admin_url("keys.auditevent", "export")
        context = {"export_url": f"{url}?{query}" if query else url}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (("export/", "keys_auditevent_export", self.export_listed),)

    def export_listed(self, request: HttpRequest, model_admin: Any) -> HttpResponseBase:
        """Answer with all that the list's present filter and search find, on every page of it."""
        if not request.user.has_perm(VIEW_TRAIL):
            raise PermissionDenied
        found = self.get_changelist_instance(request).get_queryset(request).order_by("created_at", "id")
        filename = f"tollkeeper-audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
        return stream_csv(request, _lines(found), filename=filename)


def _lines(events: QuerySet[AuditEvent]) -> Iterator[str]:
    yield csv_line(_COLUMNS)
    for event in events.iterator(chunk_size=_ROWS_A_READ):
        yield csv_line(_export_cell(event, column) for column in _COLUMNS)


def _export_cell(event: AuditEvent, column: str) -> object:
    value = getattr(event, column)
    match column:
        case "created_at":
            return value.isoformat().replace("+00:00", "Z")
        case "before" | "after":
            return json.dumps(value, ensure_ascii=False, sort_keys=True)
        case _:
            return "" if value is None else value


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_CHANGES else f"{text[: _LONGEST_CHANGES - 1]}…"


def _cell(values: dict[str, Any], name: str) -> object:
    value = values.get(name)
    if name not in values:
        return "-"
    return ", ".join(str(item) for item in value) if isinstance(value, list) else value

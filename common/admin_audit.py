"""Every change made through an admin page reaches the audit trail, in the transaction of the change.

The trail itself belongs to a higher app, which plugs it in here (`plug_in_trail`, when the apps are ready); without one
a change is refused, not made unrecorded. Django's own log of the admin is not written any more: it keeps neither
values nor addresses, and can be edited.

A page that calls a domain function hands it the actor (`keys.audit.admin_actor`); the function then records, and what
the page logs in the same request is not recorded twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from django import forms
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from typing_extensions import override
from unfold.admin import ModelAdmin

from common.admin_display import admin_url, code, utc
from common.admin_pages import Panel

_SHOWN_ENTRIES = 10
_VALUES_OF_FORM = "_audit_values_of_form"
_IS_RECORDED = "_audit_is_left_to_domain"
VIEW_TRAIL = "keys.view_auditevent"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminEvent:
    """A change that an admin page made. `verb` is "created", "changed" or "deleted"."""

    verb: str
    row: models.Model
    before: Mapping[str, object]
    after: Mapping[str, object]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailLine:
    """An entry of the trail, as an object's page shows it."""

    id: int
    created_at: datetime
    action: str
    actor: str
    address: str
    changes: str
    reason: str


class Trail(Protocol):
    """What the admin base needs of the audit trail."""

    def record(self, request: HttpRequest, event: AdminEvent) -> None:
        """Append the event, as done by the request's user."""

    def read_lines(self, row: models.Model, *, limit: int) -> Sequence[TrailLine]:
        """Return the newest entries about a row."""


_trails: list[Trail] = []


def plug_in_trail(trail: Trail) -> None:
    """Use `trail` from now on."""
    _trails[:] = [trail]


def leave_recording_to_domain(request: HttpRequest) -> None:
    """Note that a domain function records what this request does."""
    setattr(request, _IS_RECORDED, True)


class AuditedAdmin(ModelAdmin):
    """Records what the pages of a model change, and shows the newest entries on each object's page."""

    change_form_template: ClassVar[Any] = "common/admin/change_form.html"

    @override
    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        setattr(request, _VALUES_OF_FORM, _values_of(form, formsets or (), is_new=add))
        return super().construct_change_message(request, form, formsets, add)

    @override
    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record(request, "created", obj, message)

    @override
    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._record(request, "changed", obj, message)

    @override
    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            self._record(request, "deleted", row, "")

    def _record(self, request: HttpRequest, verb: str, row: models.Model, message: object) -> None:
        if getattr(request, _IS_RECORDED, False):
            return
        if not _trails:
            raise ImproperlyConfigured("no audit trail is plugged in: see common.admin_audit")
        before, after = getattr(request, _VALUES_OF_FORM, ({}, {}))
        if verb == "deleted":
            before, after = _columns_of(row), {}
        elif verb == "changed" and not isinstance(message, str) and not before and not after:
            # The form was saved with nothing changed.
            return
        # Django's own messages are lists of what the values say better; a page's own words are worth keeping.
        reason = message if isinstance(message, str) else ""
        _trails[0].record(request, AdminEvent(verb=verb, row=row, before=before, after=after, reason=reason))

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context: dict[str, Any] = {"show_history": False}
        if object_id is not None and request.method == "GET" and request.user.has_perm(VIEW_TRAIL):
            row = self.get_object(request, object_id)
            if row is not None:
                context["audit_panel"] = self.read_audit_panel(row)
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        # An action on many rows is recorded with what it does, or neither happens.
        with transaction.atomic() if request.method == "POST" else nullcontext():
            return super().changelist_view(request, extra_context)

    @override
    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Lead to the trail, which has what Django's page of an object's history would show."""
        return redirect(trail_url(self.opts.label_lower, object_id))

    def read_audit_panel(self, row: models.Model) -> Panel | None:
        """Return the newest entries about an object; None for what the trail is not told of."""
        lines = _trails[0].read_lines(row, limit=_SHOWN_ENTRIES) if _trails else ()
        return Panel(
            title="Audit trail",
            headers=("Time (UTC)", "What", "Who", "From", "Changes", "Reason"),
            rows=[
                (
                    utc(line.created_at, zone=""),
                    code(line.action),
                    line.actor,
                    line.address or "-",
                    line.changes or "-",
                    line.reason or "-",
                )
                for line in lines
            ],
            empty="Nothing was recorded about this yet.",
            link_url=trail_url(row._meta.label_lower, str(row.pk)),
            link_text="All entries",
        )


def trail_url(kind: str, object_id: str) -> str:
    """Return the address of the list of entries about one object."""
    return f"{admin_url('keys.auditevent', 'changelist')}?about={kind}:{object_id}"


def describe_changes(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """Return before and after in one line: "name: old → new; ..."."""
    parts = []
    for name in dict.fromkeys((*before, *after)):
        old, new = _text(before.get(name)), _text(after.get(name))
        if name not in before:
            parts.append(f"{name}: {new}")
        elif name not in after:
            parts.append(f"{name}: was {old}")
        else:
            parts.append(f"{name}: {old} → {new}")
    return "; ".join(parts)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value is None or value == "" else str(value)


def _values_of(form: Any, formsets: Iterable[Any], *, is_new: bool) -> tuple[dict[str, object], dict[str, object]]:
    """Return before and after of what a form and its inlines change."""
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    for name in form.fields if is_new else form.changed_data:
        value = form.cleaned_data.get(name)
        if is_new and value in (None, "", [], False):
            continue
        if not is_new:
            before[name] = _initial(form, name)
        # A form that changes a password hands over no value of that name.
        after[name] = value if name in form.cleaned_data else "changed"
    for formset in formsets:
        _add_inlines(formset, before, after)
    return before, after


def _add_inlines(formset: Any, before: dict[str, object], after: dict[str, object]) -> None:
    kind = formset.model._meta.verbose_name
    for row in formset.new_objects:
        after[f"{kind} {row.pk}"] = _columns_of(row)
    for row in formset.deleted_objects:
        before[f"{kind} {row.pk}"] = _columns_of(row)
    for row, names in formset.changed_objects:
        (form,) = (f for f in formset.initial_forms if f.instance.pk == row.pk)
        for name in names:
            before[f"{kind} {row.pk} {name}"] = _initial(form, name)
            after[f"{kind} {row.pk} {name}"] = form.cleaned_data.get(name)


def _initial(form: Any, name: str) -> object:
    value = form.get_initial_for_field(form.fields[name], name) if name in form.fields else None
    field = form.fields.get(name)
    if isinstance(field, forms.ModelChoiceField) and not isinstance(field, forms.ModelMultipleChoiceField):
        # Forms hold a related row by its key; people know it by its name.
        return None if value is None or field.queryset is None else field.queryset.filter(pk=value).first()
    return value


def _columns_of(row: models.Model) -> dict[str, object]:
    return {
        field.name: getattr(row, field.name)
        for field in row._meta.concrete_fields
        if not field.primary_key and getattr(row, field.name) not in (None, "", [])
    }

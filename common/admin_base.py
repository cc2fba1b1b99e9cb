"""The base of every admin page: it never counts large tables, writes only what was changed, and shows exact money.

Admin classes hold no rules: each view translates, makes one domain call and translates back. A class is
registered by the lowest app that knows all of what its page shows; apps below offer an unregistered base.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from typing_extensions import override
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList as UnfoldChangeList
from unfold.widgets import UnfoldAdminTextareaWidget

from common.admin_audit import AuditedAdmin
from common.admin_fields import UsdField
from common.admin_pages import Panel

_M = TypeVar("_M", bound=models.Model)
_F = TypeVar("_F", bound=Callable[..., Any])
_PAGE_FACTS = "_admin_page_facts"


class NoCountPaginator(InfinitePaginator):
    """Previous and next, with no COUNT: on a table of millions a count takes longer than the page itself."""

    template_name = "common/admin/pagination.html"


class FactsChangeList(UnfoldChangeList):
    """Asks its admin once for everything that the page's rows show beside their own columns."""

    model_admin: "PlatformModelAdmin[Any]"

    @override
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = self.with_facts(self.result_list)
        # Equal to it, so that no page boasts a number that nobody counted.
        self.full_result_count = self.result_count

    def with_facts(self, found: Iterable[Any]) -> list[Any]:
        """Return the rows of a page, each with what `read_page_facts` says of it."""
        rows = list(found)
        facts = self.model_admin.read_page_facts(rows)
        for row in rows:
            setattr(row, _PAGE_FACTS, facts.get(row.pk))
        return rows


def page_facts(row: models.Model) -> Any:
    """Return what `read_page_facts` said of a row of a list; None outside lists."""
    return getattr(row, _PAGE_FACTS, None)


class PlatformModelAdmin(AuditedAdmin, Generic[_M]):
    """Base of editable pages; what they change is recorded in the audit trail."""

    show_full_result_count = False
    # Counts beside the choices of a filter would each read the whole table.
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    # Form fields whose stored form is not for reading, and the display methods that stand for them on pages of
    # people who may only look.
    view_names: Mapping[str, str] = {}
    formfield_overrides: Any = {models.TextField: {"widget": UnfoldAdminTextareaWidget({"rows": 3})}}  # type: ignore[misc]
    list_fullwidth = True
    list_filter_sheet = True
    list_filter_submit = True
    list_horizontal_scrollbar_top = False
    # Unfold ships no types, and what is inferred from its defaults (None, an empty tuple) forbids its own
    # documented values; hence the ignored assignments here and below.
    actions_detail: Sequence[str] = ()  # type: ignore[assignment]
    add_fieldsets: Any = ()
    fieldsets: ClassVar[Any] = None
    actions: Sequence[str] | None = ()

    def read_page_facts(self, rows: Sequence[_M]) -> Mapping[Any, object]:
        """Return, by primary key, what the rows of one list page need from elsewhere: one query a page, never a row."""
        return {}

    @override
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (title, {**options, "fields": tuple(self.view_names.get(name, name) for name in options["fields"])})
            for title, options in fieldsets
        ]

    @override
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return FactsChangeList

    @override
    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name.endswith("_nanousd"):
            return UsdField.for_column(db_field)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Write the changed columns only: a whole row would undo what others did since the page was opened."""
        if not change:
            obj.save()
            return
        columns = {field.name for field in obj._meta.concrete_fields}
        changed = [name for name in self.changed_columns(form) if name in columns]
        if changed:
            obj.save(update_fields=changed)

    def changed_columns(self, form: forms.ModelForm[_M]) -> Sequence[str]:
        """Return the names of the columns that the form changed."""
        return form.changed_data


class ReadOnlyModelAdmin(PlatformModelAdmin[_M]):
    """Base of pages that only show: nobody may add, change or delete here, a superuser neither."""

    paginator = NoCountPaginator
    list_disable_select_all = True
    # Sorting by a click would read a whole table; the one order follows an index.
    sortable_by = ()
    actions: Sequence[str] | None = None

    @override
    def read_audit_panel(self, row: models.Model) -> Panel | None:
        # What cannot be changed seldom has a history; where it has one (a price is published), it is shown.
        panel = super().read_audit_panel(row)
        return panel if panel is not None and panel.rows else None

    @override
    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PanelModelAdmin(ReadOnlyModelAdmin[_M]):
    """Base of pages that show tables below the fields of a row."""

    change_form_outer_after_template = "common/admin/panels.html"  # type: ignore[assignment]

    def read_panels(self, row: _M) -> Sequence[Panel]:
        """Return the tables of a row's page."""
        raise NotImplementedError

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        row = self.get_object(request, object_id) if object_id else None
        context = {} if row is None else {"panels": self.read_panels(row)}
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})


def page_action(
    *,
    description: str,
    url_path: str,
    permission: str,
    icon: str,
    variant: ActionVariant = ActionVariant.DEFAULT,
) -> Callable[[_F], _F]:
    """Make a method the view behind a button on an object's page; `has_<permission>_permission` guards both."""
    decorate: Any = action(
        description=description, url_path=url_path, permissions=[permission], icon=icon, variant=variant
    )
    return cast("Callable[[_F], _F]", decorate)


def adopt(target: _M, created: _M) -> None:
    """Make the unsaved `target` of an admin form stand for the row that a domain function has `created`."""
    target.__dict__.update(created.__dict__)

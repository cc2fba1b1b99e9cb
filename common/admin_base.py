"""The base of every admin page: it never counts large tables, writes only what was changed, and shows exact money.

Admin classes hold no rules: each view translates, makes one domain call and translates back. A class is
registered by the lowest app that knows all of what its page shows; apps below offer an unregistered base.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from django import forms
from django.contrib.admin.views.main import ChangeList
from django.db import models
from django.http import HttpRequest
from typing_extensions import override
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList as UnfoldChangeList

from common.admin_fields import UsdField

_M = TypeVar("_M", bound=models.Model)
_PAGE_FACTS = "_admin_page_facts"


class NoCountPaginator(InfinitePaginator):
    """Previous and next, with no COUNT: on a table of millions a count takes longer than the page itself."""

    template_name = "common/admin/pagination.html"


class FactsChangeList(UnfoldChangeList):
    """Asks its admin once for everything that the page's rows show beside their own columns."""

    @override
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows = list(self.result_list)
        facts = self.model_admin.read_page_facts(rows)
        for row in rows:
            setattr(row, _PAGE_FACTS, facts.get(row.pk))
        self.result_list = rows


def page_facts(row: models.Model) -> Any:
    """Return what `read_page_facts` said of a row of a list; None outside lists."""
    return getattr(row, _PAGE_FACTS, None)


class PlatformModelAdmin(ModelAdmin, Generic[_M]):
    """Base of editable pages."""

    show_full_result_count = False
    list_per_page = 50
    list_fullwidth = True
    list_filter_sheet = True
    list_filter_submit = True
    list_horizontal_scrollbar_top = False
    save_as_continue = False

    def read_page_facts(self, rows: Sequence[_M]) -> Mapping[Any, object]:
        """Return, by primary key, what the rows of one list page need from elsewhere: one query a page, never a row."""
        return {}

    @override
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
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
    actions = None

    @override
    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def adopt(target: _M, created: _M) -> None:
    """Make the unsaved `target` of an admin form stand for the row that a domain function has `created`."""
    target.__dict__.update(created.__dict__)

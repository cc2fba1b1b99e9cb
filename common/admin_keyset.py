"""Admin lists of tables that grow for ever: keyset pages, estimated counts, bounded searches (see `common.keyset`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from django.contrib.admin import ListFilter
from django.db.models import DateTimeField, Model, Q, QuerySet
from django.http import HttpRequest
from typing_extensions import override

from common.admin_base import FactsChangeList, NoCountPaginator, ReadOnlyModelAdmin
from common.admin_display import utc
from common.clock import from_us
from common.counting import describe_count
from common.keyset import Bounds, Cursor, Search, parse_cursor, read_page

_M = TypeVar("_M", bound=Model)
CURSOR_PARAMETER = "k"
# The parameter of `RecentFilter`, which every list of these may have.
_SPAN_PARAMETER = "within"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyset:
    """The column that a list is ordered by, newest first, and the filters whose indexes have it behind them."""

    moment: str
    indexed_filters: frozenset[str] = frozenset()

    def is_indexed(self, spec: ListFilter) -> bool:
        """Return whether an index answers a filter in the list's order."""
        name = getattr(spec, "field_path", None) or getattr(spec, "parameter_name", None)
        return name in self.indexed_filters or name in (self.moment, _SPAN_PARAMETER)


class KeysetPaginator(NoCountPaginator):
    """Leads to the rows before and after those on the page."""

    template_name = "common/admin/keyset_pagination.html"


class KeysetChangeList(FactsChangeList):
    """A list whose pages are found by position."""

    model_admin: "KeysetModelAdmin[Any]"
    links: Mapping[str, str]
    count_text: str
    searched_to: Any

    @override
    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        # Before the filters make their links: another choice begins at the first page.
        for parameters in (self.params, self.filter_params):
            parameters.pop(CURSOR_PARAMETER, None)
        return super().get_queryset(request, exclude_parameters)

    @override
    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        self._has_bare_lookups = bool(found[2])
        return found

    @override
    def get_results(self, request: HttpRequest) -> None:
        keyset = self.model_admin.keyset
        search = self._search(request, keyset)
        is_datetime = isinstance(self.model._meta.get_field(keyset.moment), DateTimeField)
        cursor = parse_cursor(request.GET.get(CURSOR_PARAMETER, ""), is_datetime=is_datetime)
        page = read_page(search, cursor, self.model_admin.page_bounds)
        self.result_list = self.with_facts(page.rows)
        self.result_count = self.full_result_count = len(page.rows)
        self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.paginator = KeysetPaginator(page.rows, self.list_per_page)
        is_whole_table = not self.queryset.query.where
        self.count_text = describe_count(search, is_whole_table=is_whole_table)
        self.searched_to = page.searched_to
        self.searched_text = utc(page.searched_to if is_datetime else from_us(page.searched_to or 0))
        self.links = {
            "newest": self._address(Cursor() if page.preceding else None),
            "newer": self._address(page.preceding),
            "older": self._address(page.following),
            "oldest": self._address(Cursor(is_backward=True) if page.following else None),
        }

    def _search(self, request: HttpRequest, keyset: Keyset) -> Search:
        branches = self.model_admin.split_list(request, self.query.strip())
        base = self.root_queryset
        is_narrowed = self._has_bare_lookups
        for spec in self.filter_specs:
            if keyset.is_indexed(spec):
                narrowed = spec.queryset(request, base)
                base = base if narrowed is None else narrowed
            elif any(value not in ("", None, [], [""]) for value in spec.used_parameters.values()):
                is_narrowed = True
        return Search(
            wanted=self.queryset,
            base=base,
            moment=keyset.moment,
            branches=branches or (Q(),),
            is_indexed=bool(branches) and not is_narrowed,
        )

    def _address(self, cursor: Cursor | None) -> str:
        if cursor is None:
            return ""
        return self.get_query_string({CURSOR_PARAMETER: None if cursor == Cursor() else cursor.as_text()})


class KeysetModelAdmin(ReadOnlyModelAdmin[_M]):
    """Base of the lists of usage, money and events."""

    keyset: ClassVar[Keyset]
    page_bounds: ClassVar[Bounds] = Bounds()

    def split_list(self, request: HttpRequest, term: str) -> Sequence[Q]:
        """Return conditions, each answered by an index in the list's order, of which the list is the union.

        Nothing is returned for a search that no index answers: it walks along the list's own order.
        """
        return () if term else (Q(),)

    @override
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return KeysetChangeList

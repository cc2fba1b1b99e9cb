"""Filters of the large tables: each keeps its query on an index."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from typing_extensions import override
from unfold.contrib.filters.admin import DropdownFilter, RangeDateTimeFilter
from unfold.utils import parse_datetime_str

from billing.models import PriceVersion

_SPANS = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}
_DEFAULT_SPAN = "7d"


class RecentFilter(DropdownFilter):
    """The last hours or days; 7 days unless told, so that a filter on anything else never reads all history."""

    title = "time"
    parameter_name = "within"
    all_option: Any = None
    column = "started_at"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self._has_range = any(name.startswith(f"{self.column}_") and value for name, value in request.GET.items())
        self._names_request = request.GET.get("q", "").strip().startswith("req_")
        return [*((key, label) for key, (label, _) in _SPANS.items()), ("all", "All time")]

    @override
    def value(self) -> str | None:
        # An explicit range says all that there is to say about time; a request id is found by its own index. A
        # search for names or key prefixes keeps to the span: half the table may be theirs.
        if self._has_range:
            return "all"
        return super().value() or ("all" if self._names_request else _DEFAULT_SPAN)

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        span = _SPANS.get(self.value() or "")
        return queryset.filter(**{f"{self.column}__gte": datetime.now(UTC) - span[1]}) if span else queryset


class RecentTransfersFilter(RecentFilter):
    column = "created_at"


class UtcRangeFilter(RangeDateTimeFilter):
    """A range whose bounds are read as UTC, from included, to excluded."""

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        for end, lookup in (("from", "gte"), ("to", "lt")):
            day = self.used_parameters.get(f"{self.parameter_name}_{end}_0")
            if not day:
                continue
            clock = self.used_parameters.get(f"{self.parameter_name}_{end}_1") or "00:00:00"
            moment = parse_datetime_str(f"{day} {clock}")
            if moment is not None:
                queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": moment.replace(tzinfo=UTC)})
        return queryset


class PriceListFilter(DropdownFilter):
    """By price list; the standard one has no name, so it has a word of its own in the address."""

    title = "price list"
    parameter_name = "list"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = PriceVersion.objects.exclude(price_list="").order_by("price_list").values_list("price_list", flat=True)
        return [("-", "Standard"), *((name, name) for name in names.distinct())]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(price_list="" if chosen == "-" else chosen) if chosen else queryset


class ModelNameFilter(DropdownFilter):
    """By model; the names come from the prices, since a call without a price does not exist."""

    title = "model"
    parameter_name = "model"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = PriceVersion.objects.order_by("model").values_list("model", flat=True).distinct()
        return [(name, name) for name in names]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(model=chosen) if chosen else queryset

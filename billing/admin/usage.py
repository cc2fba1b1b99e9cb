"""Usage: one row a call, and a page that explains its cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils.html import format_html
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter

from billing.admin.display import cache_badge, input_tokens, kind_badge, output_tokens, status_badge, tokens_text
from billing.admin.filters import ModelNameFilter, RecentFilter, UtcRangeFilter
from billing.admin.finance import show_finance
from billing.admin.listed_usage import stream_records
from billing.admin.spend import show_spend
from billing.admin.transfers import transfers_of_call
from billing.explaining import CostExplanation, explain_cost, explain_outcome
from billing.ledger import explain_transfer
from billing.models import UsageRecord
from common.admin_display import admin_link, admin_url, code, money, number, short_code, usd_column, utc, utc_column
from common.admin_keyset import Keyset, KeysetModelAdmin
from common.admin_pages import Fact, Panel
from common.money import format_usd
from keys.models import ApiKey, Customer

# Names and prefixes are resolved to so many ids at most before usage is asked by its own indexes.
_SEARCH_LIMIT = 200
# Each is a query of its own along its index.
_MOST_BRANCHES = 10


@admin.register(UsageRecord)
class UsageRecordAdmin(KeysetModelAdmin[UsageRecord]):
    keyset = Keyset(moment="started_at", indexed_filters=frozenset({"customer", "api_key"}))
    list_display = (
        "started",
        "call",
        "customer_link",
        "key",
        "model_name",
        "tokens",
        "cost",
        "status_badge",
        "cached",
        "latency",
    )
    list_display_links = ("call",)
    list_filter = (
        RecentFilter,
        ("started_at", UtcRangeFilter),
        ("status", ChoicesDropdownFilter),
        ModelNameFilter,
        ("customer", AutocompleteSelectFilter),
        ("api_key", AutocompleteSelectFilter),
        ("source", ChoicesDropdownFilter),
        ("cache", ChoicesDropdownFilter),
    )
    list_select_related = ("customer", "api_key")
    search_fields = ("request_id__exact",)
    search_help_text = "Request id, key prefix (tk_live_ab12…) or customer"
    ordering = ("-started_at", "-id")
    actions = ("export_selected",)
    list_before_template = "billing/admin/export_link.html"  # type: ignore[assignment]
    change_form_template = "billing/admin/usage_detail.html"

    started = utc_column("started_at", "Time (UTC)", zone="")
    cost = usd_column("charged_nanousd", "Cost (USD)")

    @override
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (queryset.filter(_resolve(term).as_condition()) if term else queryset), False

    @override
    def split_list(self, request: HttpRequest, term: str) -> Sequence[Q]:
        if not term:
            return (Q(),)
        found = _resolve(term)
        if len(found.ids) > _MOST_BRANCHES:
            return ()
        # Nobody of that name: the condition that nothing meets.
        return [Q(**{found.column: found_id}) for found_id in found.ids] or [found.as_condition()]

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = {
            "export_kind": "usage",
            "export_url": admin_url("billing.exportrun", "export"),
            "export_listed_url": f"{admin_url('billing.usagerecord', 'export_listed')}?{request.GET.urlencode()}",
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    # ---- columns

    @admin.display(description="Request")
    def call(self, record: UsageRecord) -> SafeString:
        return short_code(record.request_id)

    @admin.display(description="Customer")
    def customer_link(self, record: UsageRecord) -> SafeString:
        return admin_link("keys.customer", record.customer_id, record.customer.name)

    @admin.display(description="Key")
    def key(self, record: UsageRecord) -> SafeString:
        return admin_link("keys.apikey", record.api_key_id, code(f"{record.api_key.prefix}…"))

    @admin.display(description="Model")
    def model_name(self, record: UsageRecord) -> SafeString:
        return code(record.model)

    @admin.display(description="Tokens in / out")
    def tokens(self, record: UsageRecord) -> SafeString:
        return tokens_text(record)

    @admin.display(description="Status")
    def status_badge(self, record: UsageRecord) -> SafeString:
        return status_badge(record)

    @admin.display(description="Cache")
    def cached(self, record: UsageRecord) -> SafeString | str:
        return cache_badge(record)

    @admin.display(description="First token / total")
    def latency(self, record: UsageRecord) -> SafeString:
        first = "-" if record.ttft_ms is None else f"{record.ttft_ms:,}"
        return SafeString(f'<span class="tk-number">{first} / {record.total_ms:,} ms</span>')

    # ---- exports

    def has_export_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.view_usagerecord")

    @admin.action(description="Export as CSV", permissions=["export"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[UsageRecord]) -> HttpResponseBase:
        return stream_records(request, queryset)

    def export_listed(self, request: HttpRequest, model_admin: Any) -> HttpResponseBase:
        """Answer with all that the list's present filter and search find, on every page of it."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        return stream_records(request, self.get_changelist_instance(request).get_queryset(request))

    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (
            ("spend/", "billing_usagerecord_spend", show_spend),
            ("finance/", "billing_usagerecord_finance", show_finance),
            ("export-listed/", "billing_usagerecord_export_listed", self.export_listed),
        )

    # ---- the page of one call

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        record = self.get_object(request, object_id) if object_id else None
        context = {} if record is None else _detail_context(record)
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resolved:
    """What a search is for: values of one of usage's indexed columns."""

    column: str
    ids: Sequence[object]

    def as_condition(self) -> Q:
        return Q(**{f"{self.column}__in": list(self.ids)})


def _resolve(term: str) -> _Resolved:
    """Resolve names to ids first: usage is then asked by its own indexes."""
    term = term.rstrip("…")
    if term.startswith("tk_"):
        # A whole key may have been pasted; its stored prefix is all that is needed of it.
        width = ApiKey._meta.get_field("prefix").max_length
        keys = ApiKey.objects.filter(prefix__startswith=term[:13] if len(term) > (width or 13) else term)
        return _Resolved(column="api_key_id", ids=list(keys.values_list("pk", flat=True)[:_SEARCH_LIMIT]))
    if UsageRecord.objects.filter(request_id=term).exists():
        return _Resolved(column="request_id", ids=[term])
    customers = Customer.objects.filter(name__icontains=term)
    return _Resolved(column="customer_id", ids=list(customers.values_list("pk", flat=True)[:_SEARCH_LIMIT]))


def _detail_context(record: UsageRecord) -> dict[str, Any]:
    cost = explain_cost(record)
    return {
        "record": record,
        "status_badge": status_badge(record),
        "sentences": explain_outcome(record),
        "facts": _facts(record),
        "panels": [_cost_panel(record, cost), _timing_panel(record), _transfers_panel(record)],
    }


def _facts(record: UsageRecord) -> list[Fact]:
    served_by = f"{record.upstream or '-'} as '{record.upstream_model or record.model}'"
    facts = [
        Fact(label="Request", value=code(record.request_id)),
        Fact(label="Customer", value=admin_link("keys.customer", record.customer_id, record.customer.name)),
        Fact(label="Key", value=admin_link("keys.apikey", record.api_key_id, str(record.api_key))),
        Fact(label="Model", value=record.model),
        Fact(label="Served by", value=served_by),
        Fact(label="Operation", value=f"{record.operation}{' (stream)' if record.is_stream else ''}"),
        Fact(label="Started", value=utc(record.started_at)),
        Fact(label="Settled", value=utc(record.settled_at)),
        Fact(label="Charged", value=f"{format_usd(record.charged_nanousd)} USD"),
    ]
    label = f" ({record.prompt_label})" if record.prompt_label else ""
    optional = (
        ("Prompt", f"{record.prompt} {record.prompt_version}{label}" if record.prompt else ""),
        ("Response cache", cache_badge(record) if record.cache else ""),
        ("Finish reason", record.finish_reason),
        ("Error", record.error_code),
        ("End user", record.end_user),
        ("Tags", ", ".join(f"{name}={value}" for name, value in record.tags.items())),
    )
    return facts + [Fact(label=label, value=value) for label, value in optional if value]


def _cost_panel(record: UsageRecord, cost: CostExplanation) -> Panel:
    rows: list[tuple[object, ...]] = []
    for index, attempt in enumerate(cost.attempts, start=1):
        prefix = f"{index}. " if len(cost.attempts) > 1 else ""
        rows += [
            (f"{prefix}{line.label}", number(line.tokens), money(line.rate_nanousd), code(line.amount_usd))
            for line in attempt.lines
        ]
        if attempt.request_nanousd:
            rows.append((f"{prefix}Per call", "1", "-", money(attempt.request_nanousd)))
    price_link = admin_link("billing.priceversion", cost.price.version_id, f"version {cost.price.version_id}")
    note = format_html(
        "By price {} of this model, in force when the call was admitted. {} Each class is its tokens times the price "
        "per million; the exact sum {} is rounded once to the nano-dollar (half to even): {} USD.",
        price_link,
        " ".join(cost.reasons),
        " + ".join(attempt.exact_usd for attempt in cost.attempts),
        format_usd(cost.rounded_nanousd),
    )
    return Panel(
        title="Cost",
        headers=("Token class", "Tokens", "USD per 1M tokens", "Exact amount (USD)"),
        rows=rows,
        footer=("Cost", number(input_tokens(record) + output_tokens(record)), "", money(record.cost_nanousd)),
        note=note,
        empty="Nothing was produced, so nothing was charged.",
    )


def _timing_panel(record: UsageRecord) -> Panel:
    first = "-" if record.ttft_ms is None else f"{record.ttft_ms:,} ms"
    return Panel(
        title="Timing",
        headers=("First token", "Upstream", "Our own overhead", "Total"),
        rows=[
            (
                first,
                f"{record.upstream_ms:,} ms",
                f"{record.overhead_us // 1000}.{record.overhead_us % 1000:03d} ms",
                f"{record.total_ms:,} ms",
            )
        ],
        empty="",
        note="First token and total count from the arrival of the request.",
    )


def _transfers_panel(record: UsageRecord) -> Panel:
    return Panel(
        title="Ledger",
        headers=("Transfer", "Time", "Kind", "What it did"),
        rows=[
            (
                admin_link("billing.transfer", transfer.pk, transfer.pk),
                utc(transfer.created_at),
                kind_badge(transfer.kind),
                explain_transfer(transfer),
            )
            for transfer in transfers_of_call(record)
        ],
        empty="This call moved no money: it was free, so nothing had to be held.",
    )

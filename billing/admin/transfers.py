"""The ledger: each transfer explains itself."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, DropdownFilter

from billing.admin.display import kind_badge
from billing.admin.filters import RecentTransfersFilter, UtcRangeFilter
from billing.ledger import explain_transfer
from billing.models import Account, Transfer, UsageRecord
from common.admin_display import admin_link, admin_url, link, short_code, usd_column, utc_column
from common.admin_keyset import Keyset, KeysetModelAdmin


class PartyFilter(DropdownFilter):
    """Both sides of one account; reached by links from its page, so it offers only that one."""

    title = "account (either side)"
    parameter_name = "party"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # Django leaves out a filter that offers nothing, and then does not apply it either.
        account = _find_party(request)
        return [] if account is None else [(str(account.pk), str(account.customer or account.code))]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Transfer]) -> QuerySet[Transfer]:
        sides = _sides_of_party(request)
        return queryset.filter(sides[0] | sides[1]) if sides else queryset


def _find_party(request: HttpRequest) -> Account | None:
    account = request.GET.get(PartyFilter.parameter_name, "")
    is_id = account.isdecimal() and len(account) < 19
    return Account.objects.filter(pk=int(account)).select_related("customer").first() if is_id else None


def _sides_of_party(request: HttpRequest) -> list[Q]:
    account = _find_party(request)
    return [] if account is None else [Q(debit_account=account), Q(credit_account=account)]


@admin.register(Transfer)
class TransferAdmin(KeysetModelAdmin[Transfer]):
    keyset = Keyset(
        moment="created_at", indexed_filters=frozenset({"debit_account", "credit_account", PartyFilter.parameter_name})
    )
    list_display = (
        "id",
        "created",
        "sentence",
        "amount",
        "parties",
        "call",
        "resolves",
    )
    list_filter = (
        RecentTransfersFilter,
        ("created_at", UtcRangeFilter),
        ("kind", ChoicesDropdownFilter),
        ("debit_account", AutocompleteSelectFilter),
        ("credit_account", AutocompleteSelectFilter),
        PartyFilter,
    )
    list_select_related = ("debit_account__customer", "credit_account__customer")
    search_fields = ("request_id__exact",)
    search_help_text = "Request id, reference or transfer number"
    ordering = ("-created_at", "-id")
    fields = (
        "id",
        "created",
        "kind_badge",
        "explanation",
        "amount",
        "debit",
        "credit",
        "call",
        "resolves",
        "resolved_by",
        "reason",
        "author",
        "reference",
    )
    list_before_template = "billing/admin/export_link.html"  # type: ignore[assignment]

    created = utc_column("created_at", "Time (UTC)", zone="")
    amount = usd_column("amount_nanousd", "Amount (USD)")

    @override
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if term.isdecimal():
            return queryset.filter(pk=int(term)), False
        return queryset.filter(Q(request_id=term) | Q(reference=term)), False

    @override
    def split_list(self, request: HttpRequest, term: str) -> Sequence[Q]:
        # Either side has its index; what is searched for is unique.
        return (not term and _sides_of_party(request)) or (Q(),)

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = {"export_kind": "ledger", "export_url": admin_url("billing.exportrun", "export")}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    @admin.display(description="Kind")
    def kind_badge(self, transfer: Transfer) -> SafeString:
        return kind_badge(transfer.kind)

    @admin.display(description="What it did")
    def explanation(self, transfer: Transfer) -> str:
        return explain_transfer(transfer)

    @admin.display(description="What it did")
    def sentence(self, transfer: Transfer) -> SafeString:
        author = f" By {transfer.author}." if transfer.author else ""
        return format_html(
            '<span class="tk-sentence">{} {}{}</span>', kind_badge(transfer.kind), explain_transfer(transfer), author
        )

    @admin.display(description="From → to")
    def parties(self, transfer: Transfer) -> SafeString:
        return SafeString(f"{self.debit(transfer)} → {self.credit(transfer)}")

    @admin.display(description="From (debit)")
    def debit(self, transfer: Transfer) -> SafeString:
        return _account_link(transfer.debit_account)

    @admin.display(description="To (credit)")
    def credit(self, transfer: Transfer) -> SafeString:
        return _account_link(transfer.credit_account)

    @admin.display(description="Call")
    def call(self, transfer: Transfer) -> SafeString | str:
        if not transfer.request_id:
            return "-"
        return link(
            f"{admin_url('billing.usagerecord', 'changelist')}?q={transfer.request_id}",
            short_code(transfer.request_id),
        )

    @admin.display(description="Resolves")
    def resolves(self, transfer: Transfer) -> SafeString | str:
        if transfer.pending_id is None:
            return "-"
        return admin_link("billing.transfer", transfer.pending_id, f"hold {transfer.pending_id}")

    @admin.display(description="Resolved by")
    def resolved_by(self, transfer: Transfer) -> SafeString | str:
        resolution = Transfer.objects.filter(pending=transfer).first()
        if resolution is None:
            return "-"
        return admin_link("billing.transfer", resolution.pk, f"{resolution.get_kind_display()} {resolution.pk}")


def _account_link(account: Any) -> SafeString:
    name = account.customer.name if account.customer is not None else account.code
    return admin_link("billing.account", account.pk, name)


def transfers_of_call(record: UsageRecord) -> list[Transfer]:
    """Return the transfers of a call, in the order in which they were booked."""
    return list(
        Transfer.objects.filter(request_id=record.request_id)
        .select_related("debit_account__customer", "credit_account__customer")
        .order_by("id")
    )

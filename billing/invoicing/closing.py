"""Closing a month: the draft of its invoice, computed from usage.

Safe to repeat: a draft is computed anew, an invoice that was issued stays as it is. The sums are read without a lock,
because calls go on meanwhile; what other invoices ask for is read before and again under the wallet's lock, and where
the two differ it starts over. A month without anything to tell has no invoice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from billing.errors import PeriodInvalid
from billing.finance_models import UsageArchive, UsageHour
from billing.invoice_models import BillingProfile, Invoice, InvoiceItem
from billing.invoicing.coverage import Coverage, measure_coverage
from billing.invoicing.document import InvoiceLine, InvoiceState
from billing.invoicing.lines import make_lines
from billing.invoicing.others import OtherInvoices, read_others
from billing.invoicing.parties import describe_buyer, describe_seller, read_profile
from billing.invoicing.periods import Period, make_period
from billing.invoicing.sums import read_charges, read_sums
from billing.models import Account, UsageRecord
from billing.money import lock_wallet
from billing.pricing import read_price_book
from common.clock import EPOCH
from common.sql import Sql
from keys.audit import Actor, author_actor, record_event
from keys.models import Customer


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who does something to an invoice: the name that ledger and movements keep, and whom the audit trail names."""

    name: str
    actor: Actor | None = None

    @property
    def acting(self) -> Actor:
        return self.actor or author_actor(self.name)


def close_period(customer_id: int, month: str, *, author: Author, now: datetime | None = None) -> Invoice | None:
    """Return the invoice of a customer's month ("2026-10"): a draft that is computed now, or the one that was issued.

    None where there is nothing to invoice. Raises PeriodInvalid for what is no month, or not over in the customer's
    time zone.
    """
    now = now or datetime.now(UTC)
    customer = Customer.objects.get(pk=customer_id)
    profile = read_profile(customer)
    period = make_period(month, profile.time_zone)
    if period.end > now:
        raise PeriodInvalid(
            f"{month} is not over yet for {customer.name}: it ends at {period.end:%Y-%m-%d %H:%M} UTC.", param="month"
        )
    while True:
        standing = _find_standing(customer_id, month)
        if standing is not None and standing.status != InvoiceState.DRAFT:
            return standing
        archived = UsageArchive.objects.count()
        others = read_others(customer_id, month, period.end)
        lines = _read_lines(customer_id, period, others)
        with transaction.atomic():
            wallet = lock_wallet(customer_id)
            standing = _find_standing(customer_id, month)
            is_open = standing is None or standing.status == InvoiceState.DRAFT
            is_same = read_others(customer_id, month, period.end) == others
            # What was archived while it was read would be in both of its sources, or in neither.
            if is_open and is_same and UsageArchive.objects.count() == archived:
                draft = standing or Invoice(customer=customer, month=month, standing_month=month)
                ground = _Ground(customer=customer, profile=profile, period=period, others=others)
                return _write_draft(draft, lines, ground, wallet, author=author, now=now)


def find_customers_to_close() -> list[Customer]:
    """Return the customers that have ever used anything, by name."""
    used, archived = (Exists(model.objects.filter(customer=OuterRef("pk"))) for model in (UsageRecord, UsageHour))
    return list(Customer.objects.filter(used | archived).order_by("name", "pk"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What a draft is computed from, beside its lines."""

    customer: Customer
    profile: BillingProfile
    period: Period
    others: OtherInvoices


def set_coverage(invoice: Invoice, coverage: Coverage) -> None:
    """Write the sums below the lines into an invoice (unsaved)."""
    for field in fields(coverage):
        setattr(invoice, field.name, getattr(coverage, field.name))


def _find_standing(customer_id: int, month: str) -> Invoice | None:
    return Invoice.objects.filter(customer_id=customer_id, standing_month=month).first()


def _read_lines(customer_id: int, period: Period, others: OtherInvoices) -> tuple[InvoiceLine, ...]:
    prices = read_price_book(Sql(connection))
    return make_lines(
        read_sums(customer_id, period.start, period.end, prices),
        prices,
        everything=read_charges(customer_id, EPOCH, others.end),
        elsewhere=others.charges,
    )


def _write_draft(
    draft: Invoice,
    lines: Sequence[InvoiceLine],
    ground: _Ground,
    wallet: Account,
    *,
    author: Author,
    now: datetime,
) -> Invoice | None:
    """Write a draft with its lines in place of those it had; delete it when there is nothing to tell any more."""
    is_new = draft.pk is None
    if not is_new:
        draft.items.all().delete()
    if not any(line.amount_nanousd for line in lines):
        if not is_new:
            draft.delete()
        return None
    usage = sum(line.amount_nanousd for line in lines)
    before = {} if is_new else {"usage_nanousd": draft.usage_nanousd, "net_nanousd": draft.net_nanousd}
    coverage = measure_coverage(
        wallet,
        usage_nanousd=usage,
        tax_millionths=ground.profile.tax_millionths,
        others=ground.others,
        now=now,
    )
    draft.status = InvoiceState.DRAFT
    draft.time_zone = ground.period.time_zone
    draft.period_start, draft.period_end = ground.period.start, ground.period.end
    draft.usage_nanousd = usage
    draft.basis_nanousd = ground.others.usage_nanousd
    draft.replaces = _find_replaced(draft)
    draft.computed_at = now
    set_parties(draft, ground.customer, ground.profile)
    set_coverage(draft, coverage)
    draft.save()
    InvoiceItem.objects.bulk_create([_item(draft, line) for line in lines])
    after = {"usage_nanousd": draft.usage_nanousd, "net_nanousd": draft.net_nanousd}
    if after != before:
        record_event(actor=author.acting, action="invoice.drafted", target=draft, before=before, after=after)
    return draft


def set_parties(invoice: Invoice, customer: Customer, profile: BillingProfile) -> None:
    """Write seller, buyer and the percent of tax as they are now into an invoice (unsaved)."""
    invoice.seller = describe_seller()
    invoice.buyer = describe_buyer(customer, profile)
    invoice.tax_millionths = profile.tax_millionths


def _find_replaced(draft: Invoice) -> Invoice | None:
    """Return the void invoice that a draft stands for: the last one of its month."""
    void = Invoice.objects.filter(customer_id=draft.customer_id, month=draft.month, status=InvoiceState.VOID)
    return void.order_by("-id").first()


def _item(draft: Invoice, line: InvoiceLine) -> InvoiceItem:
    return InvoiceItem(
        invoice=draft,
        position=line.position,
        kind=line.kind,
        text=line.text[:300],
        model=line.model,
        price_version_id=line.price_version,
        price_terms_id=line.price_terms,
        token_class=line.token_class,
        quantity=line.quantity,
        rate_nanousd=line.rate_nanousd,
        amount_nanousd=line.amount_nanousd,
    )

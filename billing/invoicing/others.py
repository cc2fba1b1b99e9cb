"""What the other invoices of a customer ask for: the ground on which one more is computed.

Those that stand and are numbered count, and drafts of earlier months; a draft of a later month is computed after this
one and does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Q, Sum

from billing.invoice_models import Invoice, InvoiceItem
from billing.invoicing.document import NANO_PER_CENT, InvoiceState
from billing.invoicing.lines import charge_of_lines
from billing.invoicing.sums import Charge


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherInvoices:
    """Sums over the other invoices, in nano-USD."""

    # The end of the latest month that is invoiced, the one in hand included.
    end: datetime
    charges: Mapping[str, Charge] = field(default_factory=dict)
    usage_nanousd: int = 0
    granted_nanousd: int = 0
    # Of drafts: still in the wallet.
    unmoved_nanousd: int = 0
    # Of issued ones: asked for and not paid.
    open_nanousd: int = 0
    has_earlier_draft: bool = False


def read_others(customer_id: int, month: str, end: datetime) -> OtherInvoices:
    """Return what counts beside the invoice of a month that ends at `end`."""
    counted = Q(status__in=(InvoiceState.ISSUED, InvoiceState.PAID)) | Q(status=InvoiceState.DRAFT, month__lt=month)
    others = list(Invoice.objects.filter(counted, customer_id=customer_id).exclude(standing_month=month))
    items = InvoiceItem.objects.filter(invoice__in=[each.pk for each in others])
    # Aggregated by model and kind: an invoice has few lines, but a customer may have many invoices.
    sums = items.values("model", "kind").annotate(total=Sum("amount_nanousd"), count=Sum("quantity")).order_by()
    drafts = [each for each in others if each.status == InvoiceState.DRAFT]
    issued = [each for each in others if each.status == InvoiceState.ISSUED]
    return OtherInvoices(
        end=max([end, *(each.period_end for each in others)]),
        charges=charge_of_lines((row["model"], row["kind"], row["count"], row["total"]) for row in sums),
        usage_nanousd=sum(each.usage_nanousd for each in others),
        granted_nanousd=sum(each.granted_nanousd for each in others),
        unmoved_nanousd=sum(each.net_nanousd for each in drafts),
        open_nanousd=sum(each.due_cents - each.paid_cents for each in issued) * NANO_PER_CENT,
        has_earlier_draft=bool(drafts),
    )

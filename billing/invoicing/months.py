"""Closing a month for many customers: each for itself, so that one that cannot be closed holds up nobody."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings

from billing.invoice_models import Invoice
from billing.invoicing.closing import Author, close_period, find_customers_to_close
from billing.invoicing.document import InvoiceState
from billing.invoicing.issuing import issue_invoice
from billing.invoicing.parties import read_profile
from billing.invoicing.periods import Period, last_month, make_period
from billing.usage_sources import usage_sources
from common.errors import TollkeeperError
from keys.models import Customer

# Calls that began before the end of a month have been settled by then, but for a few.
_QUIET = timedelta(hours=6)
_PERIODIC = Author(name="platform")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """What became of one customer's month; `problem` is why it could not be closed or issued."""

    customer: Customer
    invoice: Invoice | None = None
    problem: str = ""


def close_month(
    month: str, *, customer: Customer | None = None, issues: bool = False, author: Author, now: datetime | None = None
) -> list[ClosedMonth]:
    """Close a month of one customer or of all, and issue the invoices where asked to. Safe to repeat.

    Raises PeriodInvalid for what is no month.
    """
    make_period(month, "UTC")
    chosen = find_customers_to_close() if customer is None else [customer]
    return [_close(each, month, issues=issues, author=author, now=now) for each in chosen]


def close_due_months(now: datetime | None = None) -> list[ClosedMonth]:
    """Close the last month of every customer that used something in it, once it is over and quiet, if settings say so.

    Months that have an invoice are left alone: a draft that somebody looks at is theirs.
    """
    wanted = settings.ENVIRONMENT.invoice_closing
    if wanted == "off":
        return []
    now = now or datetime.now(UTC)
    issues = wanted == "issue"
    return [
        _close(customer, period.month, issues=issues, author=_PERIODIC, now=now)
        for customer, period in _find_due(now - _QUIET)
    ]


def _find_due(now: datetime) -> Iterator[tuple[Customer, Period]]:
    for customer in find_customers_to_close():
        time_zone = read_profile(customer).time_zone
        period = make_period(last_month(now, time_zone), time_zone)
        has_invoice = Invoice.objects.filter(customer=customer, month=period.month).exists()
        if not has_invoice and _has_usage(customer, period):
            yield customer, period


def _has_usage(customer: Customer, period: Period) -> bool:
    sources = usage_sources(period.start, period.end)
    return any(source.rows.filter(customer=customer, charged_nanousd__gt=0).exists() for source in sources)


def _close(customer: Customer, month: str, *, issues: bool, author: Author, now: datetime | None) -> ClosedMonth:
    try:
        invoice = close_period(customer.pk, month, author=author, now=now)
        if invoice is not None and issues and invoice.status == InvoiceState.DRAFT:
            invoice = issue_invoice(invoice.pk, author=author, now=now)
    except TollkeeperError as error:
        return ClosedMonth(customer=customer, problem=error.message)
    return ClosedMonth(customer=customer, invoice=invoice)

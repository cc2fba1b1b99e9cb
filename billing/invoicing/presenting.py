"""An invoice as JSON: amounts are exact decimals in text, moments ISO 8601."""

from dataclasses import asdict
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from billing.invoicing.document import NANO_PER_CENT, InvoiceDocument, InvoiceLine, LineKind
from common.money import format_usd
from common.percents import format_percent


def present_document(document: InvoiceDocument) -> dict[str, Any]:
    """Return an invoice with its lines, as customers and admins get it."""
    return {**present_summary(document), "lines": [_line(line) for line in document.lines]}


def present_summary(document: InvoiceDocument) -> dict[str, Any]:
    """Return an invoice without its lines, as lists have it."""
    zone = ZoneInfo(document.time_zone)
    return {
        "object": "invoice",
        "number": document.number,
        "state": document.state.value,
        "currency": document.currency,
        "customer_id": document.customer_id,
        "month": document.month,
        "period_start": _moment(document.period_start, zone),
        "period_end": _moment(document.period_end, zone),
        "time_zone": document.time_zone,
        "issued_on": _day(document.issued_on),
        "due_on": _day(document.due_on),
        "paid_on": _day(document.paid_on),
        "voided_on": _day(document.voided_on),
        "void_reason": document.void_reason,
        "replaces": document.replaces,
        "replaced_by": document.replaced_by,
        "seller": asdict(document.seller),
        "customer": asdict(document.customer),
        "usage": format_usd(document.usage_nanousd),
        "granted": format_usd(document.granted_nanousd),
        "prepaid": format_usd(document.prepaid_nanousd),
        "net": format_usd(document.net_nanousd),
        "carried": format_usd(document.carried_nanousd),
        "tax_percent": format_percent(document.tax_millionths, decimals=4).removesuffix(" %"),
        "tax": format_usd(document.tax_nanousd),
        "total": format_usd(document.total_nanousd),
        "due": format_usd(document.due_cents * NANO_PER_CENT),
        "paid": format_usd(document.paid_cents * NANO_PER_CENT),
        "open": format_usd(document.open_cents * NANO_PER_CENT),
    }


def describe_rate(line: InvoiceLine) -> str:
    """Return what one unit of a line costs, for people; "" where many prices are in it."""
    if line.rate_nanousd is None:
        return ""
    unit = "1M tokens" if line.kind is LineKind.TOKENS else "request"
    return f"{format_usd(line.rate_nanousd)} per {unit}"


def _line(line: InvoiceLine) -> dict[str, Any]:
    return {
        "kind": line.kind.value,
        "text": line.text,
        "model": line.model,
        "token_class": line.token_class,
        "quantity": line.quantity,
        "rate": None if line.rate_nanousd is None else format_usd(line.rate_nanousd),
        "amount": format_usd(line.amount_nanousd),
        "price_version": line.price_version,
        "price_terms": line.price_terms,
    }


def _moment(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat()


def _day(day: date | None) -> str | None:
    return None if day is None else day.isoformat()

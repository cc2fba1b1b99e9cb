"""An invoice as its readers see it: JSON, PDF and the admin page show the same frozen values, and nothing else.

Amounts of lines and sums are integer nano-USD, exact; what is asked for is in whole cents. They add up:

    sum of lines = usage = granted + prepaid + net
    net + carried + tax = total, and `due_cents` is the total rounded once, half to even
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

NANO_PER_CENT = 10_000_000


class InvoiceState(StrEnum):
    """What has become of an invoice. Only drafts change; the others have a number."""

    DRAFT = "draft"
    ISSUED = "issued"
    PAID = "paid"
    VOID = "void"


class LineKind(StrEnum):
    """What a line tells."""

    # Tokens of one class, under one price.
    TOKENS = "tokens"
    # What calls cost apart from their tokens, under one price.
    REQUESTS = "requests"
    # All calls of a model; the amount is what rounding each of them to the nano-dollar has added or taken.
    CALLS = "calls"
    # Answers that another call had fetched; the part of their price that they cost.
    REUSED = "reused"
    # Calls of which only sums are left, because they have been archived.
    ARCHIVED = "archived"
    # What calls cost and nobody pays: beyond what was held for them, of test keys, or free by a rule.
    UNCHARGED = "uncharged"
    # Calls of earlier months that no invoice has asked for yet; below zero: that another invoice has asked for too.
    LATE = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who sells or buys, as it was when the invoice was issued. `address` has several lines; "" is not known."""

    legal_name: str
    address: str = ""
    # ISO 3166-1 alpha-2.
    country: str = ""
    tax_id: str = ""
    email: str = ""
    # Of the seller: how to pay.
    payment_details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One line; `amount_nanousd` may be negative."""

    position: int
    kind: LineKind
    text: str
    model: str
    # Of `billing.tokens.TOKEN_CLASSES` in lines of tokens, else "".
    token_class: str = ""
    # Tokens in lines of tokens, else calls.
    quantity: int = 0
    # Per million tokens, or per call; None where many prices are in one line.
    rate_nanousd: int | None = None
    amount_nanousd: int = 0
    # Ids of the price version and of the terms whose markup is in the rate, where the line has one price.
    price_version: int | None = None
    price_terms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceDocument:
    """One invoice, whole."""

    # "" for a draft.
    number: str
    state: InvoiceState
    # Public id of the customer.
    customer_id: str
    seller: Party
    customer: Party
    # "2026-10"
    month: str
    # Half-open, aware.
    period_start: datetime
    period_end: datetime
    # IANA name; the month is a calendar month there.
    time_zone: str
    # UTC days; None for a draft.
    issued_on: date | None
    due_on: date | None
    lines: tuple[InvoiceLine, ...]
    usage_nanousd: int
    # What grants and money paid in advance (or credited) have paid of the usage.
    granted_nanousd: int
    prepaid_nanousd: int
    # What is left to pay of the usage; the tax is reckoned from it.
    net_nanousd: int
    # What rounding to cents has left on earlier invoices, at most a few cents; may be negative.
    carried_nanousd: int
    # Millionths of the net amount: 88_750 is 8.875 %.
    tax_millionths: int
    # Whole cents.
    tax_nanousd: int
    total_nanousd: int
    due_cents: int
    paid_cents: int
    paid_on: date | None = None
    voided_on: date | None = None
    void_reason: str = ""
    # Numbers of the void invoice that this one stands for, and of the one that stands for this.
    replaces: str = ""
    replaced_by: str = ""
    currency: str = "USD"

    @property
    def open_cents(self) -> int:
        """Return what is still to be paid."""
        return 0 if self.state is InvoiceState.VOID else self.due_cents - self.paid_cents

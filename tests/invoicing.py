"""A customer whose calls, money and invoices share one story, at chosen moments."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.attempts import cost_of_use, pack_attempts
from billing.invoice_models import BillingProfile, Invoice, InvoiceItem
from billing.invoicing.closing import Author, close_period
from billing.invoicing.document import InvoiceDocument, LineKind
from billing.invoicing.issuing import issue_invoice
from billing.invoicing.paying import receive_payment, void_invoice
from billing.invoicing.reading import read_document
from billing.models import UsageRecord
from billing.money import Order, order_movement
from billing.money_models import Movement, MovementKind
from billing.rates import Processing
from billing.reconciliation import reconcile
from billing.tokens import TokenCounts, add_tokens
from common.clock import FrozenClock, to_us
from common.money import parse_usd
from gateway.admission.commands import Admitted
from tests.admitting import make_context, run
from tests.factories import FundedCall, funded_call

ANN = Author(name="ann")
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
# At the factories' prices of 1 and 4 USD per million tokens: 5 USD.
MILLION = TokenCounts(input=1_000_000, output=1_000_000)
_DAY = timedelta(days=1)
# When invoices are issued, paid and void, unless a test says otherwise.
_AFTERWARDS = DECEMBER + _DAY


@dataclass
class Buyer:
    """A customer that pays afterwards (unless `credit_limit_usd` is 0), by UTC months unless a profile says so."""

    call: FundedCall = field(default_factory=lambda: funded_call(credit_nanousd=0))
    credit_limit_usd: str = "900"

    def __post_init__(self) -> None:
        if self.credit_limit_usd != "0":
            self.move(MovementKind.CREDIT_LIMIT, self.credit_limit_usd, at=datetime(2026, 1, 1, tzinfo=UTC))

    @property
    def id(self) -> int:
        return self.call.customer_id

    def set_profile(self, **columns: Any) -> None:
        BillingProfile.objects.update_or_create(customer_id=self.id, defaults=columns)

    def move(self, kind: MovementKind, usd: str, *, at: datetime, **options: Any) -> Movement:
        order = Order(
            kind=kind,
            customer_id=self.id,
            amount_nanousd=parse_usd(usd),
            reason="for a test",
            author="tests",
            **options,
        )
        return order_movement(order, now=at)

    def use(
        self,
        at: datetime,
        tokens: TokenCounts = MILLION,
        *,
        attempts: tuple[TokenCounts, ...] = (),
        held_nanousd: int | None = None,
        call: FundedCall | None = None,
        settled: datetime | None = None,
        processing: Processing = Processing.STANDARD,
        **fields: Any,
    ) -> str:
        """Book a whole call that began at `at`; what it costs follows from its price. Return its request id.

        It is settled at once, unless `settled` says when.
        """
        fresh = (call or self.call).refreshed()
        tokens = add_tokens(attempts) if attempts else tokens
        cost = cost_of_use(fresh.price.table, tokens, attempts, processing)
        context = make_context(FrozenClock(to_us(settled or at)))
        question = fresh.admit(amount_nanousd=cost if held_nanousd is None else held_nanousd, lifetime_seconds=10**8)
        (answer,) = run(question, context=context)
        assert isinstance(answer, Admitted), answer
        command = fresh.settle(question.request_id, cost_nanousd=cost, tokens=tokens, started_us=to_us(at))
        known = {
            "processing": processing.value,
            "attempts": pack_attempts(attempts) if attempts else "",
            "price_terms_id": fresh.price.terms_id,
        }
        run(command._replace(usage=command.usage._replace(**{**known, **fields})), context=context)
        return question.request_id

    def close(self, month: str = "2026-10", *, now: datetime | None = None) -> Invoice:
        invoice = close_period(self.id, month, author=ANN, now=now or _AFTERWARDS)
        assert invoice is not None
        return invoice

    def issue(self, month: str = "2026-10", *, now: datetime | None = None) -> Invoice:
        """Close a month and issue its invoice."""
        now = now or _AFTERWARDS
        return issue_invoice(self.close(month, now=now).pk, author=ANN, now=now)


def pay(invoice: Invoice, cents: int | None = None, *, reference: str = "") -> Invoice:
    """Receive a payment of an invoice, of all that is due by default."""
    amount = invoice.due_cents if cents is None else cents
    chosen = reference or f"bank-{invoice.pk}-{amount}"
    return receive_payment(invoice.pk, amount, reason="bank", reference=chosen, author=ANN, now=_AFTERWARDS)


def void(invoice: Invoice) -> Invoice:
    """Void an invoice."""
    return void_invoice(invoice.pk, reason="wrong address", author=ANN, now=_AFTERWARDS)


def document(invoice: Invoice) -> InvoiceDocument:
    """Return an invoice as its readers see it, as it is in the database now."""
    return read_document(Invoice.objects.get(pk=invoice.pk))


def amounts(invoice: Invoice, kind: LineKind) -> list[int]:
    """Return the amounts of the lines of a kind, in nano-USD."""
    items = InvoiceItem.objects.filter(invoice=invoice, kind=kind).order_by("position")
    return list(items.values_list("amount_nanousd", flat=True))


def charged(buyer: Buyer, *, before: datetime = DECEMBER) -> int:
    """Return what the ledger moved for calls that began before a moment."""
    records = UsageRecord.objects.filter(customer_id=buyer.id, started_at__lt=before)
    return sum(records.values_list("charged_nanousd", flat=True))


def assert_books_are_clean() -> None:
    """Reconcile everything that exists, but for the counters of limits: calls here come in any order of time."""
    report = reconcile()
    assert all(check.is_clean for check in report.checks if check.name != "limits"), report.as_text()

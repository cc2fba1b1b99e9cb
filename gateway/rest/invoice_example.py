"""An invoice for the documents: put together by the same function that answers, so that it never says otherwise."""

from datetime import UTC, date, datetime

from billing.invoicing.document import InvoiceDocument, InvoiceLine, InvoiceState, LineKind, Party

_USD = 1_000_000_000
_LINES = (
    InvoiceLine(
        position=1,
        kind=LineKind.TOKENS,
        text="gpt-5: input tokens",
        model="gpt-5",
        token_class="input",  # noqa: S106 - a class of tokens
        quantity=12_400_000,
        rate_nanousd=2 * _USD,
        amount_nanousd=24_800_000_000,
        price_version=7,
    ),
    InvoiceLine(
        position=2,
        kind=LineKind.TOKENS,
        text="gpt-5: output tokens",
        model="gpt-5",
        token_class="output",  # noqa: S106 - a class of tokens
        quantity=1_150_001,
        rate_nanousd=10 * _USD,
        amount_nanousd=11_500_010_000,
        price_version=7,
    ),
    InvoiceLine(
        position=3,
        kind=LineKind.CALLS,
        text="gpt-5: rounding of 8,204 calls to the nano-dollar",
        model="gpt-5",
        quantity=8_204,
        amount_nanousd=3,
    ),
)

EXAMPLE = InvoiceDocument(
    number="INV-2026-00042",
    state=InvoiceState.ISSUED,
    customer_id="cus_0000000000000000000000example",
    seller=Party(
        legal_name="Example Models Inc.",
        address="1 Main Street\nSpringfield",
        country="US",
        tax_id="12-3456789",
        email="billing@models.example",
        payment_details="IBAN XX00 0000 0000 0000 0000",
    ),
    customer=Party(
        legal_name="Acme GmbH",
        address="Hauptstraße 1\n10115 Berlin",
        country="DE",
        tax_id="DE123456789",
        email="accounts@acme.example",
    ),
    month="2026-10",
    period_start=datetime(2026, 9, 30, 22, tzinfo=UTC),
    period_end=datetime(2026, 10, 31, 23, tzinfo=UTC),
    time_zone="Europe/Berlin",
    issued_on=date(2026, 11, 3),
    due_on=date(2026, 12, 3),
    lines=_LINES,
    usage_nanousd=36_300_010_003,
    granted_nanousd=5 * _USD,
    prepaid_nanousd=10 * _USD,
    net_nanousd=21_300_010_003,
    carried_nanousd=4_000_000,
    tax_millionths=190_000,
    tax_nanousd=4_050_000_000,
    total_nanousd=25_354_010_003,
    due_cents=25_35,
    paid_cents=0,
)

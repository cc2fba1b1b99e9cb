"""The PDF of an invoice: whole, exact, and the same bytes for the same document."""

import base64
import re
import zlib
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from billing.invoicing.document import InvoiceDocument, InvoiceLine, InvoiceState, LineKind, Party
from billing.invoicing.pdf import render_pdf


def line(position: int, *, text: str = "gpt-5-mini: output tokens", amount_nanousd: int = 1) -> InvoiceLine:
    return InvoiceLine(
        position=position,
        kind=LineKind.TOKENS,
        text=text,
        model="gpt-5-mini",
        token_class="output",
        quantity=1_234_567,
        rate_nanousd=2_500_000_000,
        amount_nanousd=amount_nanousd,
    )


ISSUED = InvoiceDocument(
    number="INV-2026-000017",
    state=InvoiceState.ISSUED,
    customer_id="cus_1",
    seller=Party(legal_name="Seller", address="1 Road\n10115 Town", tax_id="DE1", payment_details="IBAN 42"),
    customer=Party(legal_name="Buyer"),
    month="2026-10",
    period_start=datetime(2026, 9, 30, 22, tzinfo=UTC),
    period_end=datetime(2026, 10, 31, 23, tzinfo=UTC),
    time_zone="Europe/Berlin",
    issued_on=date(2026, 11, 2),
    due_on=date(2026, 12, 2),
    lines=(line(1, amount_nanousd=1_234_000_000_001), line(2, amount_nanousd=-500_000_000)),
    usage_nanousd=1_233_500_000_001,
    granted_nanousd=3_500_000_001,
    prepaid_nanousd=0,
    net_nanousd=1_230_000_000_000,
    carried_nanousd=0,
    tax_millionths=88_750,
    tax_nanousd=109_160_000_000,
    total_nanousd=1_339_160_000_000,
    due_cents=133_916,
    paid_cents=0,
)


def read_pages(content: bytes) -> list[str]:
    """Return what is written on each page; characters beyond ASCII are coded by the fonts in the file."""
    streams = re.findall(rb"/ASCII85Decode /FlateDecode \][^>]*>>\s*stream\s+(.*?~>)\s*endstream", content, re.DOTALL)
    pages = [zlib.decompress(base64.a85decode(b"<~" + stream, adobe=True)) for stream in streams]
    return [" ".join(t.decode("latin-1") for t in re.findall(rb"\(((?:\\.|[^()\\])*)\) Tj", page)) for page in pages]


def read_text(document: InvoiceDocument) -> str:
    return " ".join(read_pages(render_pdf(document)))


def test_the_same_document_is_the_same_bytes() -> None:
    assert render_pdf(ISSUED) == render_pdf(replace(ISSUED))


def test_amounts_are_exact_and_what_is_due_is_in_cents() -> None:
    text = read_text(ISSUED)
    for shown in ("1,234.000000001", "0.500000000", "1,233.500000001", "3.500000001", "109.16", "8.875 %"):
        assert shown in text
    assert "Due in USD 1,339.16" in text
    assert "IBAN 42" in text
    assert "2026-10-01 to 2026-10-31" in text


def test_many_lines_take_many_pages_each_with_its_number() -> None:
    lines = tuple(line(position, text=f"line number {position}") for position in range(200))
    pages = read_pages(render_pdf(replace(ISSUED, lines=lines)))
    assert len(pages) > 3
    for number, page in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in page
        assert "INV-2026-000017" in page
    text = " ".join(pages)
    assert all(f"line number {position} " in text for position in range(200))


@pytest.mark.parametrize("name", ["Łódź & Söhne <b>", "Ωμέγα Привет", "東京 カナ 한국", "\N{GRINNING FACE}", "a\x00b"])
def test_names_of_every_script_are_taken_as_they_are(name: str) -> None:
    document = replace(ISSUED, customer=Party(legal_name=f"{name} plain"), lines=(line(1, text=name),))
    assert "plain" in read_text(document)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"number": "", "state": InvoiceState.DRAFT, "issued_on": None, "due_on": None, "lines": ()}, "A draft"),
        ({"state": InvoiceState.VOID, "voided_on": date(2026, 11, 3), "void_reason": "twice"}, "Void since 2026-11-03"),
    ],
)
def test_what_is_not_to_be_paid_says_so_and_asks_for_nothing(changes: dict[str, object], sentence: str) -> None:
    text = read_text(replace(ISSUED, **changes))  # type: ignore[arg-type]
    assert sentence in text
    assert "IBAN" not in text


def test_a_paid_one_says_when_and_asks_for_nothing() -> None:
    text = read_text(replace(ISSUED, state=InvoiceState.PAID, paid_cents=133_916, paid_on=date(2026, 11, 20)))
    assert "2026-11-20" in text
    assert "Still open 0.00" in text
    assert "IBAN" not in text

"""An invoice as PDF: the same document is the same bytes, on every machine and at any time.

Everything that it needs is installed with it. Latin, Greek and Cyrillic are drawn in Noto Sans, which goes into the
file; Chinese, Japanese and Korean name the fonts that every PDF reader has for them (ISO 32000-1, 9.7.5.2), because
a font of these scripts weighs more than the rest of the server.
"""

import io
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cache
from itertools import groupby
from typing import Any
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from fontpkg_noto_sans import ROOT as FONT_ROOT
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus.doctemplate import SimpleDocTemplate
from reportlab.platypus.flowables import Flowable, KeepTogether, Spacer
from reportlab.platypus.paragraph import Paragraph
from reportlab.platypus.tables import LongTable, Table, TableStyle

from billing.invoicing.document import NANO_PER_CENT, InvoiceDocument, InvoiceLine, InvoiceState, LineKind, Party
from common.money import format_usd

_FONT = "NotoSans"
_CHINESE, _JAPANESE, _KOREAN = "STSong-Light", "HeiseiKakuGo-W5", "HYSMyeongJo-Medium"
_GREY, _RULE, _RED = HexColor("#6b7280"), HexColor("#d1d5db"), HexColor("#b91c1c")
_MARGIN, _PADDING = 18 * mm, 6
_WIDTH = A4[0] - 2 * _MARGIN
_TEXT = ParagraphStyle("text", fontName=_FONT, fontSize=9, leading=12.5)
_SMALL = ParagraphStyle("small", parent=_TEXT, fontSize=8, leading=11, textColor=_GREY)
_RIGHT = ParagraphStyle("right", parent=_TEXT, alignment=TA_RIGHT)
_SMALL_RIGHT = ParagraphStyle("small-right", parent=_SMALL, alignment=TA_RIGHT)
_TITLE = ParagraphStyle("title", parent=_TEXT, fontSize=20, leading=26)
_WARNING = ParagraphStyle("warning", parent=_TEXT, fontSize=12, leading=16, textColor=_RED)
_TOTAL = ParagraphStyle("total", parent=_RIGHT, fontSize=12, leading=16)
_PARTIES = TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
_LINES = TableStyle(
    [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, _GREY),
        ("LINEBELOW", (0, 1), (-1, -1), 0.3, _RULE),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
        ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
    ]
)
_SUMS = TableStyle([("VALIGN", (0, 0), (-1, -1), "BOTTOM"), ("RIGHTPADDING", (-1, 0), (-1, -1), 0)])


def render_pdf(document: InvoiceDocument) -> bytes:
    """Return the invoice as a file of A4 pages, each with the invoice's name and the number of pages."""
    _register_fonts()
    buffer = io.BytesIO()
    template = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        # The library's frame pads what is in it.
        leftMargin=_MARGIN - _PADDING,
        rightMargin=_MARGIN - _PADDING,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=_name_of(document),
        author=document.seller.legal_name,
        # No moment and no random id in the file.
        invariant=1,
    )
    template.build(list(_compose(document)), canvasmaker=_numbered(_name_of(document)))
    return buffer.getvalue()


@cache
def _register_fonts() -> frozenset[int]:
    """Load the fonts, once a process, and return which characters Noto Sans has."""
    # A font of variable weight: what is drawn is its default, the regular one.
    font = TTFont(_FONT, str(FONT_ROOT / "files" / "NotoSans[wdth,wght].ttf"))
    pdfmetrics.registerFont(font)
    for name in (_CHINESE, _JAPANESE, _KOREAN):
        pdfmetrics.registerFont(UnicodeCIDFont(name))
    return frozenset(font.face.charToGlyph)


def _numbered(name: str) -> type[Canvas]:
    """Return a canvas that writes the foot of every page when it knows how many there are."""

    class NumberedCanvas(Canvas):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802 - the library's name
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for page in self._pages:
                self.__dict__.update(page)
                self.setFont(_FONT, 8)
                self.setFillColor(_GREY)
                self.drawString(_MARGIN, 10 * mm, name)
                self.drawRightString(A4[0] - _MARGIN, 10 * mm, f"Page {self._pageNumber} of {len(self._pages)}")
                super().showPage()
            super().save()

    return NumberedCanvas


def _compose(document: InvoiceDocument) -> Iterator[Flowable]:
    yield Paragraph(_text(_name_of(document)), _TITLE)
    notice = _notice_of(document)
    if notice:
        yield Paragraph(_text(notice), _WARNING)
    yield Spacer(1, 6 * mm)
    facts = [
        Paragraph(f'<font color="#6b7280">{label}:</font> {_text(value)}', _TEXT) for label, value in _facts(document)
    ]
    parties = [
        [Paragraph("From", _SMALL), Paragraph("To", _SMALL), ""],
        [_describe_party(document.seller), _describe_party(document.customer), facts],
    ]
    yield Table(parties, colWidths=[_WIDTH * share for share in (0.31, 0.31, 0.38)], style=_PARTIES)
    yield Spacer(1, 8 * mm)
    yield _table_of_lines(document.lines)
    yield Spacer(1, 5 * mm)
    yield KeepTogether(_closing(document))


def _name_of(document: InvoiceDocument) -> str:
    return f"Invoice {document.number}" if document.number else f"Draft of an invoice for {document.month}"


def _notice_of(document: InvoiceDocument) -> str:
    """Return what a reader must not miss."""
    match document.state:
        case InvoiceState.DRAFT:
            return "A draft: its amounts may change, and nothing is to be paid."
        case InvoiceState.VOID:
            reason = f": {document.void_reason}" if document.void_reason else ""
            return f"Void since {document.voided_on}{reason}. Nothing is to be paid."
    return ""


def _describe_party(party: Party) -> list[Flowable]:
    tax_id = f"Tax id {party.tax_id}" if party.tax_id else ""
    lines = [party.legal_name, *party.address.splitlines(), party.country, tax_id, party.email]
    return [Paragraph(_text(line), _TEXT) for line in lines if line.strip()]


def _facts(document: InvoiceDocument) -> list[tuple[str, str]]:
    zone = ZoneInfo(document.time_zone)
    first = document.period_start.astimezone(zone).date()
    last = (document.period_end - timedelta(microseconds=1)).astimezone(zone).date()
    facts = (
        ("Customer", document.customer_id),
        ("Period", f"{first} to {last}"),
        ("Time zone", document.time_zone),
        ("Issued on", document.issued_on),
        ("Due on", document.due_on if document.open_cents > 0 else None),
        ("Paid on", document.paid_on),
        ("Replaces", document.replaces),
        ("Replaced by", document.replaced_by),
    )
    return [(label, str(value)) for label, value in facts if value]


def _table_of_lines(lines: Sequence[InvoiceLine]) -> Flowable:
    # All amounts with as many decimals as the longest needs: exact, and their points below each other.
    decimals = max((len(format_usd(line.amount_nanousd).partition(".")[2]) for line in lines), default=2)
    rows: list[list[object]] = [
        [
            Paragraph(_text(line.text), _TEXT),
            Paragraph(f"{line.quantity:,}", _RIGHT),
            Paragraph(_rate(line), _RIGHT),
            Paragraph(_usd(line.amount_nanousd, decimals), _RIGHT),
        ]
        for line in lines
    ] or [[Paragraph("Nothing was used.", _SMALL), "", "", ""]]
    headers = [
        Paragraph(title, style)
        for title, style in (("What", _SMALL), ("Quantity", _SMALL_RIGHT), ("Price (USD)", _SMALL_RIGHT))
    ]
    widths = [_WIDTH * share for share in (0.44, 0.16, 0.20, 0.20)]
    amounts = Paragraph("Amount (USD)", _SMALL_RIGHT)
    return LongTable([[*headers, amounts], *rows], colWidths=widths, style=_LINES, repeatRows=1)


def _rate(line: InvoiceLine) -> str:
    if line.rate_nanousd is None:
        return ""
    unit = "per million" if line.kind is LineKind.TOKENS else "per call"
    return f'{_usd(line.rate_nanousd, 2)} <font color="#6b7280" size="7">{unit}</font>'


def _closing(document: InvoiceDocument) -> list[Flowable]:
    """Return the sums, and how to pay what is open."""
    sums = [
        ("Usage", document.usage_nanousd, True),
        ("Paid by grants", -document.granted_nanousd, document.granted_nanousd != 0),
        ("Paid in advance", -document.prepaid_nanousd, document.prepaid_nanousd != 0),
        ("Net", document.net_nanousd, True),
        ("Carried over from rounding to cents", document.carried_nanousd, document.carried_nanousd != 0),
        (f"Tax, {_percent(document.tax_millionths)}", document.tax_nanousd, True),
        ("Total", document.total_nanousd, document.total_nanousd != document.due_cents * NANO_PER_CENT),
    ]
    rows = [_sum_row(label, amount, _RIGHT) for label, amount, is_shown in sums if is_shown]
    rows.append(_sum_row(f"Due in {document.currency}", document.due_cents * NANO_PER_CENT, _TOTAL))
    if document.paid_cents:
        rows.append(_sum_row("Paid", -document.paid_cents * NANO_PER_CENT, _RIGHT))
        rows.append(_sum_row("Still open", document.open_cents * NANO_PER_CENT, _RIGHT))
    closing: list[Flowable] = [Table(rows, colWidths=[_WIDTH * 0.72, _WIDTH * 0.28], style=_SUMS)]
    is_payable = document.state is InvoiceState.ISSUED and document.open_cents > 0
    if is_payable and document.seller.payment_details:
        closing += [Spacer(1, 8 * mm), Paragraph("How to pay", _SMALL)]
        closing += [Paragraph(_text(line), _TEXT) for line in document.seller.payment_details.splitlines()]
    return closing


def _sum_row(label: str, amount_nanousd: int, style: ParagraphStyle) -> list[Paragraph]:
    return [Paragraph(_text(label), style), Paragraph(_usd(amount_nanousd, 2), style)]


def _usd(amount_nanousd: int, decimals: int) -> str:
    """Return the exact amount with thousands apart, for people."""
    whole, _, fraction = format_usd(abs(amount_nanousd), min_decimals=decimals).partition(".")
    # A true minus: it is as wide as a digit and does not break.
    sign = "\N{MINUS SIGN}" if amount_nanousd < 0 else ""
    return f"{sign}{int(whole):,}.{fraction}"


def _percent(millionths: int) -> str:
    return f"{format_usd(millionths * 100_000, min_decimals=0)} %"


def _text(text: str) -> str:
    """Return text as the library's markup, each run of characters in a font that has them."""
    known = _register_fonts()
    parts = []
    for font, run in groupby(text, key=lambda character: _font_of(character, known)):
        escaped = escape("".join(run))
        parts.append(escaped if font == _FONT else f'<font name="{font}">{escaped}</font>')
    return "".join(parts)


def _font_of(character: str, known: frozenset[int]) -> str:
    code = ord(character)
    # These fonts are addressed by 16 bits.
    if code in known or code > 0xFFFF:
        return _FONT
    if 0x3040 <= code <= 0x30FF:
        return _JAPANESE
    if 0xAC00 <= code <= 0xD7A3 or 0x1100 <= code <= 0x11FF:
        return _KOREAN
    return _CHINESE if 0x2E80 <= code <= 0xFFEF else _FONT

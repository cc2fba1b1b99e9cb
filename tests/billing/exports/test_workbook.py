import io

import pytest
from python_calamine import CalamineWorkbook

from billing.exports import workbook
from billing.ledger import grant_credit
from tests.exporting import ALWAYS, COST, START, content, order, settle_one
from tests.factories import funded_call, make_customer

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


def read(dataset: str = "usage") -> list[list[dict[str, object]]]:
    """Return the rows of each sheet, by the names of their columns."""
    book = CalamineWorkbook.from_filelike(io.BytesIO(content(order(dataset, "xlsx", start=ALWAYS[0], end=ALWAYS[1]))))
    sheets = [book.get_sheet_by_name(name).to_python() for name in book.sheet_names]
    return [[dict(zip(map(str, rows[0]), row, strict=True)) for row in rows[1:]] for rows in sheets]


def test_a_workbook_holds_the_rows_with_numbers_that_add_up() -> None:
    request_id = settle_one(funded_call(), at=START)
    ((row,),) = read()
    assert row["request_id"] == request_id
    assert (row["charged_usd"], row["charged_nanousd"], row["output_tokens"]) == (0.000033, COST, 7)
    assert (row["is_stream"], row["started_at"]) == (True, "2026-11-01T00:00:00.000000Z")


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK(1)", "https://example.com", "007"])
def test_a_text_stays_a_text(value: str) -> None:
    settle_one(funded_call(), at=START, end_user=value)
    file = content(order("usage", "xlsx"))
    assert b"<f>" not in file
    ((row,),) = read()
    assert row["end_user"] == value


def test_no_cell_is_a_formula_or_a_link() -> None:
    import zipfile

    settle_one(funded_call(), at=START, end_user='=cmd|"/c calc"!A1')
    archive = zipfile.ZipFile(io.BytesIO(content(order("usage", "xlsx"))))
    sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet
    assert "hyperlink" not in sheet


def test_an_amount_beyond_a_spreadsheets_digits_keeps_them_as_text() -> None:
    customer = make_customer(credit_usd="0")
    grant_credit(customer_id=customer.pk, amount_nanousd=9 * 10**15 + 1, reason="large", author="tests")
    ((row,),) = read("ledger")
    assert row["amount_nanousd"] == "9000000000000001"


def test_rows_beyond_a_sheet_go_on_in_a_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_ROWS_A_SHEET", 2)
    call = funded_call()
    ids = [settle_one(call, at=START) for _ in range(5)]
    sheets = read()
    assert [len(rows) for rows in sheets] == [2, 2, 1]
    assert [row["request_id"] for rows in sheets for row in rows] == ids


def test_one_range_gives_one_file() -> None:
    settle_one(funded_call(), at=START)
    wanted = order("usage", "xlsx")
    assert content(wanted) == content(wanted)

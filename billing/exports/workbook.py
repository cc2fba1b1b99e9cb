"""An Excel workbook, for people: a frozen header, filters, numbers that add up.

A workbook is a ZIP archive that is complete only at its end, so it is made in a temporary file first; memory holds one
row. Texts are written as text cells, which no spreadsheet takes for formulas. Amounts in USD are numbers: a spreadsheet
keeps 15 digits of them, and the column in nano-USD beside each has them all, as text where 15 do not do.
"""

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing.exports.cells import write_json, write_usd
from billing.exports.columns import Column, ColumnKind
from billing.exports.reading import read_batches
from billing.exports.selection import Selection, format_moment
from billing.exports.tally import Tally
from common.sql import Row

# A sheet has 1,048,576 rows; the header is one.
_ROWS_A_SHEET = 1_048_575
_MOST_CELL_CHARACTERS = 32_767
_LARGEST_EXACT = 10**15
_CHUNK_BYTES = 65_536
# A file says nothing of when it was made, so that one range gives one file.
_CREATED = datetime(2000, 1, 1, tzinfo=UTC)


def write_workbook(selection: Selection, tally: Tally) -> Iterator[bytes]:
    """Yield the file in parts; the first one comes when all rows are read."""
    import xlsxwriter  # noqa: PLC0415 - 2 MB, for who asks for a workbook

    with tempfile.TemporaryFile() as file:
        book: Any = xlsxwriter.Workbook(file, {"constant_memory": True})
        book.set_properties({"title": _title(selection), "created": _CREATED})
        sheets = _Sheets(book, selection)
        total_at = [column.name for column in selection.columns].index(selection.dataset.total)
        for rows in read_batches(selection, selection.columns):
            tally.add_rows(len(rows), sum(row[total_at] for row in rows))
            for row in rows:
                sheets.add(row)
        sheets.finish()
        book.close()
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


class _Sheets:
    """The rows of a workbook, on as many sheets as they need."""

    def __init__(self, book: Any, selection: Selection) -> None:
        self._book = book
        self._name = selection.dataset.name.value
        self._columns = selection.columns
        self._bold = book.add_format({"bold": True, "bottom": 1})
        self._usd = book.add_format({"num_format": "#,##0.00#######"})
        self._count = 0
        self._open()

    def add(self, row: Row) -> None:
        if self._row == _ROWS_A_SHEET:
            self.finish()
            self._open()
        self._row += 1
        for index, (column, value) in enumerate(zip(self._columns, row, strict=True)):
            self._write(index, column, value)

    def finish(self) -> None:
        """Put filters over the rows of the present sheet."""
        self._sheet.autofilter(0, 0, self._row, len(self._columns) - 1)

    def _open(self) -> None:
        self._count += 1
        self._row = 0
        self._sheet = self._book.add_worksheet(self._name if self._count == 1 else f"{self._name} {self._count}")
        self._sheet.freeze_panes(1, 0)
        for index, (column, width) in enumerate(zip(self._columns, _widths(self._columns), strict=True)):
            self._sheet.set_column(index, index, width)
            self._sheet.write_string(0, index, column.name, self._bold)

    def _write(self, index: int, column: Column, value: Any) -> None:
        if value is None or value == "":
            return
        match column.kind:
            case ColumnKind.USD:
                # A Decimal, which the package writes with 16 digits: no float in between.
                self._sheet.write_number(self._row, index, Decimal(write_usd(value)), self._usd)
            case ColumnKind.INTEGER if abs(value) < _LARGEST_EXACT:
                self._sheet.write_number(self._row, index, value)
            case ColumnKind.FLAG:
                self._sheet.write_boolean(self._row, index, bool(value))
            case ColumnKind.JSON:
                self._sheet.write_string(self._row, index, write_json(value)[:_MOST_CELL_CHARACTERS])
            case _:
                self._sheet.write_string(self._row, index, str(value)[:_MOST_CELL_CHARACTERS])


def _widths(columns: Sequence[Column]) -> Iterator[int]:
    for column in columns:
        is_long = column.kind is ColumnKind.MOMENT or column.name in ("request_id", "customer_id", "key_id")
        yield 30 if is_long else max(10, len(column.name) + 4)


def _title(selection: Selection) -> str:
    return f"{selection.dataset.name.value} {format_moment(selection.start)} to {format_moment(selection.end)}"

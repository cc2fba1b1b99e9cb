"""CSV (RFC 4180): comma, CRLF, quotes where needed, UTF-8, a header.

Amounts are plain decimals in USD, exact, and again as integers in nano-USD. A text that a spreadsheet would take for a
formula gets a leading apostrophe.

Lines are joined here and not by the csv module, which looks at every character of every cell: that alone was half of
the time of an export. Only texts can need quotes, and most of them were seen before (see `cells`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from billing.exports.cells import write_flag, write_json, write_plain, write_usd
from billing.exports.columns import ColumnKind
from billing.exports.reading import read_batches
from billing.exports.selection import Selection
from billing.exports.tally import Tally

_MUST_BE_QUOTED = frozenset(',"\r\n')


def write_csv(selection: Selection, tally: Tally) -> Iterator[bytes]:
    """Yield the file in parts."""
    columns = selection.columns
    names = [column.name for column in columns]
    writers = [_WRITERS[column.kind] for column in columns]
    total_at = names.index(selection.dataset.total)
    yield encode_lines([names])
    for rows in read_batches(selection, columns):
        # Column by column: a writer is then looked up once for a thousand values.
        values = list(zip(*rows, strict=True))
        tally.add_rows(len(rows), sum(values[total_at]))
        yield encode_lines(zip(*(write(column) for write, column in zip(writers, values, strict=True)), strict=True))


def encode_lines(rows: Iterable[Iterable[str]]) -> bytes:
    """Return rows of cells, quoted where they must be, as lines."""
    return "".join([f"{','.join(row)}\r\n" for row in rows]).encode()


def quote(text: str) -> str:
    """Return a text as a cell."""
    if _MUST_BE_QUOTED.isdisjoint(text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


@lru_cache(4_096)
def _write_text(text: str | None) -> str:
    return quote(write_plain(text))


@lru_cache(256)
def _write_object(text: str) -> str:
    return quote(write_json(text))


def _write_integers(values: Sequence[int | None]) -> Iterable[str]:
    return map(str, values) if None not in values else ["" if value is None else str(value) for value in values]


_WRITERS: dict[ColumnKind, Callable[[Sequence[Any]], Iterable[str]]] = {
    ColumnKind.TEXT: lambda values: map(_write_text, values),
    ColumnKind.INTEGER: _write_integers,
    ColumnKind.USD: lambda values: map(write_usd, values),
    ColumnKind.MOMENT: lambda values: values,
    ColumnKind.FLAG: lambda values: map(write_flag, values),
    ColumnKind.JSON: lambda values: map(_write_object, values),
}

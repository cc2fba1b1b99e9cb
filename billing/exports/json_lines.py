"""JSON lines: one object a row with the names and types of the columns; amounts in USD are strings, so that no reader
makes floats of them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from billing.exports.cells import write_json, write_usd
from billing.exports.columns import ColumnKind
from billing.exports.reading import read_batches
from billing.exports.selection import Selection
from billing.exports.tally import Tally


def json_object(text: str) -> object:
    """Return a JSON object as the database has it, ready to be put into another one."""
    return orjson.Fragment(write_json(text) or "{}")


_WRITERS: dict[ColumnKind, Callable[[Any], object]] = {
    ColumnKind.USD: write_usd,
    ColumnKind.FLAG: bool,
    ColumnKind.JSON: json_object,
}


def write_json_lines(selection: Selection, tally: Tally) -> Iterator[bytes]:
    """Yield the file in parts."""
    columns = selection.columns
    names = [column.name for column in columns]
    writers = [(index, _WRITERS[column.kind]) for index, column in enumerate(columns) if column.kind in _WRITERS]
    total_at = names.index(selection.dataset.total)
    for rows in read_batches(selection, columns):
        values: list[Iterable[object]] = list(zip(*rows, strict=True))
        tally.add_rows(len(rows), sum(row[total_at] for row in rows))
        for index, write in writers:
            values[index] = map(write, values[index])
        yield b"".join(encode_object(dict(zip(names, row, strict=True))) for row in zip(*values, strict=True))


def encode_object(value: dict[str, object]) -> bytes:
    """Return an object as a line."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)

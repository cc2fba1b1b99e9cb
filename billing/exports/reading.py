"""Reading the rows of a selection in their order, in parts, with constant memory."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db import connection

from billing.exports.columns import Column
from billing.exports.selection import Selection
from common.clock import to_us
from common.sql import Row, Sql

# Each read costs a query; each row of it about a kilobyte.
_ROWS_A_READ = 1_000


def read_batches(selection: Selection, columns: Sequence[Column]) -> Iterator[list[Row]]:
    """Yield the rows in order, some at a time, with the values of `columns`.

    Each read is a query of its own: no transaction stays open while whoever takes the file is slow.
    """
    statement = _statement(selection, columns, is_sqlite=connection.vendor == "sqlite")
    customer = () if selection.customer_id is None else (selection.customer_id,)
    last_us, last_id, end_us = to_us(selection.start), 0, to_us(selection.end)
    while True:
        with connection.wrap_database_errors:
            sql = Sql(connection)
            rows = sql.rows(statement, (*customer, sql.moment(last_us), last_id, sql.moment(end_us)))
        if rows:
            yield [row[:-2] for row in rows]
        if len(rows) < _ROWS_A_READ:
            return
        last_us, last_id = to_us(datetime.fromisoformat(rows[-1][-2])), rows[-1][-1]


def _statement(selection: Selection, columns: Sequence[Column], *, is_sqlite: bool) -> str:
    dataset = selection.dataset
    for_customer = selection.is_for_customer
    names = ", ".join(column.select(is_sqlite=is_sqlite, for_customer=for_customer) for column in columns)
    moment = next(column for column in dataset.columns if column.sql == dataset.moment)
    narrowing = "" if selection.customer_id is None else f"{dataset.customer_condition} AND "
    return (
        f"SELECT {names}, {moment.select(is_sqlite=is_sqlite)}, {dataset.id} FROM {dataset.tables}"
        # A comparison of rows: written with OR, PostgreSQL reads the rest of the range for every part.
        f" WHERE {narrowing}({dataset.moment}, {dataset.id}) > (%s, %s) AND {dataset.moment} < %s"
        f" ORDER BY {dataset.moment}, {dataset.id} LIMIT {_ROWS_A_READ}"
    )

"""Batched statements of one transaction, the same calls on SQLite and PostgreSQL.

The ORM costs 50-100 us a statement; admission runs about ten a batch. This speaks to the driver's own connection
of a Django connection, inside `transaction.atomic` or a `DurableTransaction`. Statements are written with `%s`.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from common.clock import from_us

logger = logging.getLogger(__name__)

Row = tuple[Any, ...]
# Of a connection: itself, the version of the file as others left it, the rows that it has changed.
WriteMark = tuple[object, int, int]
# A power of two; times the widest table's columns it stays far below SQLite's 32,766 variables.
_MOST_ROWS_A_STATEMENT = 64
# PostgreSQL: of so few rows a statement each, sent without waiting for answers, is quicker than COPY and arrays.
_FEW_ROWS = 4


@lru_cache(maxsize=512)
def _question_marks(statement: str) -> str:
    return statement.replace("%s", "?")


@lru_cache(maxsize=512)
def _insert_statement(table: str, names: str, width: int, rows: int) -> str:
    row = f"({','.join('?' * width)})"
    return f"INSERT INTO {table} ({names}) VALUES {','.join([row] * rows)}"


class DurableTransaction:
    """A transaction of a connection's own, for statements by `Sql` only: durable once the block has been left.

    What `transaction.atomic(durable=True)` does without savepoints, hooks and query log, which cost 40 us a block.
    Database errors are raised as Django's, with everything rolled back.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._driver: Any = None
        self._nested: transaction.Atomic | None = None

    def __enter__(self) -> None:
        if self._connection.in_atomic_block:
            # Django refuses, but where its tests have opened the outer one.
            self._nested = transaction.atomic(using=self._connection.alias, durable=True)
            self._nested.__enter__()
            return
        with self._connection.wrap_database_errors:
            self._connection.ensure_connection()
            self._driver = self._connection.connection
            self._driver.execute("BEGIN IMMEDIATE" if self._connection.vendor == "sqlite" else "BEGIN")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._nested is not None:
            self._nested.__exit__(kind, error, trace)
        elif error is not None:
            self._roll_back()
        else:
            try:
                with self._connection.wrap_database_errors:
                    self._driver.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            self._driver.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 - whatever it is, this connection is of no use any more
            self._connection.close()


class Sql:
    """Statements over the open transaction of a Django connection; lives as long as that transaction."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        connection.ensure_connection()
        self.is_sqlite = connection.vendor == "sqlite"
        # For what goes through the ORM in the same transaction.
        self.alias = connection.alias
        self._driver: Any = connection.connection
        self._cursor: Any = self._driver.cursor()

    @contextmanager
    def sparing(self, what: str) -> Iterator[None]:
        """Bound what must not fail its transaction: should it, it is undone and logged, and the transaction goes on."""
        self.run("SAVEPOINT spared")
        try:
            yield
        except Exception:
            logger.exception("not stored: %s", what)
            self.run("ROLLBACK TO SAVEPOINT spared")
        self.run("RELEASE SAVEPOINT spared")

    def read_write_mark(self) -> WriteMark | None:
        """Return a value that stays the same as long as nobody, this connection included, writes; None: unknown."""
        if not self.is_sqlite:
            return None
        self._cursor.execute("PRAGMA data_version")
        return self._driver, self._cursor.fetchone()[0], self._driver.total_changes

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a query."""
        self._execute(statement, parameters)
        found: list[Row] = self._cursor.fetchall()
        return found

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Execute and return the number of rows changed."""
        self._execute(statement, parameters)
        return int(self._cursor.rowcount)

    def rows_where_in(self, statement: str, column: str, values: Iterable[object], suffix: str = "") -> list[Row]:
        """Return the rows of `statement WHERE column IN values suffix`."""
        condition, parameters = self.condition_in(column, values)
        return self.rows(f"{statement} WHERE {condition} {suffix}", parameters)

    def condition_in(self, column: str, values: Iterable[object]) -> tuple[str, list[object]]:
        """Return the SQL of `column IN values` and its parameters."""
        listed = list(values)
        if self.is_sqlite:
            return f"{column} IN ({','.join(['%s'] * len(listed))})", listed
        return f"{column} = ANY(%s)", [listed]

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert `rows`, in as few steps as possible.

        SQLite's driver gives up the interpreter lock for every step and has to win it back from a busy event loop:
        with `executemany`, a step a row, that is most of a batch's time. So rows go in by statements of 64, 32, ..., 1
        rows (few texts, so that each stays prepared). PostgreSQL takes many rows by COPY: a tenth of executemany's cost
        a row, but two more ways there and back.
        """
        if not rows:
            return
        names = ", ".join(columns)
        if not self.is_sqlite and len(rows) <= _FEW_ROWS:
            values = ", ".join(["%s"] * len(columns))
            self._cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)
            return
        if not self.is_sqlite:
            with self._cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            return
        position, size = 0, _MOST_ROWS_A_STATEMENT
        while position < len(rows):
            while size > len(rows) - position:
                size //= 2
            chunk = rows[position : position + size]
            self._cursor.execute(_insert_statement(table, names, len(columns), size), [v for row in chunk for v in row])
            position += size

    def update_integers(self, table: str, key: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Set integer `columns` of the rows named by `key`; each row is (*values, key)."""
        if not rows:
            return
        if self.is_sqlite or len(rows) <= _FEW_ROWS:
            assignments = ", ".join(f"{column} = %s" for column in columns)
            statement = f"UPDATE {table} SET {assignments} WHERE {key} = %s"
            self._cursor.executemany(_question_marks(statement) if self.is_sqlite else statement, rows)
            return
        assignments = ", ".join(f"{column} = v.{column}" for column in columns)
        key_type = "text" if isinstance(rows[0][-1], str) else "bigint"
        arrays = ", ".join(["%s::bigint[]"] * len(columns) + [f"%s::{key_type}[]"])
        names = ", ".join([*columns, "row_key"])
        self._cursor.execute(
            f"UPDATE {table} SET {assignments} FROM unnest({arrays}) AS v({names}) WHERE {table}.{key} = v.row_key",
            [list(values) for values in zip(*rows, strict=True)],
        )

    def delete(self, table: str, key: str, values: Iterable[object]) -> int:
        """Delete the rows whose `key` is among `values`; return how many there were."""
        condition, parameters = self.condition_in(key, values)
        return self.run(f"DELETE FROM {table} WHERE {condition}", parameters)

    def allocate_ids(self, table: str, count: int) -> list[int]:
        """Return `count` fresh ids of a BigAutoField table, for rows that must name each other.

        On SQLite the transaction holds the only write lock, so the next ids are known; on PostgreSQL they come
        from the table's own sequence, as the ORM's do.
        """
        if count == 0:
            return []
        if self.is_sqlite:
            # AUTOINCREMENT remembers the highest id ever given out in sqlite_sequence, also after a delete.
            ((highest,),) = self.rows("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = %s), 0)", (table,))
            return list(range(highest + 1, highest + 1 + count))
        found = self.rows(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)", (table, count)
        )
        return [row[0] for row in found]

    def moment(self, moment_us: int) -> object:
        """Return the driver's value of a timestamp column: Django's own text form on SQLite."""
        moment = from_us(moment_us)
        return moment.replace(tzinfo=None).isoformat(sep=" ") if self.is_sqlite else moment

    @property
    def for_update(self) -> str:
        """Return the locking suffix of a SELECT; SQLite's IMMEDIATE transaction already holds its one lock."""
        # NO KEY: other transactions may go on inserting rows that refer to the locked ones.
        return "" if self.is_sqlite else "FOR NO KEY UPDATE"

    def _execute(self, statement: str, parameters: Sequence[object]) -> None:
        if self.is_sqlite:
            self._cursor.execute(_question_marks(statement), parameters)
        else:
            self._cursor.execute(statement, parameters or None)

"""Tables that only grow: UPDATE, DELETE, REPLACE and TRUNCATE are refused by the database itself.

A model becomes append-only by deriving from `AppendOnlyModel`. The triggers are (re)installed after every
`migrate`, because SQLite's ALTER rebuilds a table and silently drops its triggers; `find_unprotected_tables`
is asked by the system check before the server starts. On SQLite `INSERT OR REPLACE` passes a delete trigger
unless `PRAGMA recursive_triggers` is on, which the connection settings switch on; the insert trigger below
refuses it even on a connection that forgot.
"""

from pathlib import Path

from django.apps import apps
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

_SQL = Path(__file__).parent / "sql"


class AppendOnlyModel(models.Model):
    """Base of ledger-like rows: written once, corrected only by new rows."""

    class Meta:
        abstract = True


def append_only_tables() -> list[str]:
    """Return the table names of all append-only models, sorted."""
    return sorted(m._meta.db_table for m in apps.get_models() if issubclass(m, AppendOnlyModel))


def install_triggers(connection: BaseDatabaseWrapper, tables: list[str]) -> None:
    """Put the refusing triggers on `tables` that exist; safe to repeat."""
    present = set(connection.introspection.table_names())
    with connection.cursor() as cursor:
        for table in tables:
            if table in present:
                for statement in _statements(f"append_only.{connection.vendor}.sql", table):
                    cursor.execute(statement)


def remove_triggers(connection: BaseDatabaseWrapper, tables: list[str]) -> None:
    """Take the triggers off: the reverse file, for a migration that has to rebuild old rows."""
    with connection.cursor() as cursor:
        for table in tables:
            for statement in _statements(f"append_only.{connection.vendor}.reverse.sql", table):
                cursor.execute(statement)


def find_unprotected_tables(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the append-only tables whose triggers do not all stand."""
    expected = {
        "sqlite": ("append_only_update", "append_only_delete", "append_only_replace"),
        "postgresql": ("append_only_row", "append_only_truncate"),
    }[connection.vendor]
    query = (
        "SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'"
        if connection.vendor == "sqlite"
        else "SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND pg_table_is_visible(c.oid)"
    )
    with connection.cursor() as cursor:
        cursor.execute(query)
        standing = set(cursor.fetchall())
    return [
        table
        for table in append_only_tables()
        if any((table, f"{table}_{suffix}") not in standing for suffix in expected)
    ]


def _statements(filename: str, table: str) -> list[str]:
    text = (_SQL / filename).read_text(encoding="utf-8").replace("{table}", table)
    return [part.strip() for part in text.split("-- next\n") if part.strip()]

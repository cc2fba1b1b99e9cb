"""Tables that only grow: UPDATE, DELETE, REPLACE and TRUNCATE are refused by the database itself.

A model becomes append-only by deriving from `AppendOnlyModel`, which may name further SQL files that guard its rows.
The triggers are (re)installed after every `migrate`, because SQLite's ALTER rebuilds a table and silently drops its
triggers; `find_unprotected_tables` is asked by the system check before the server starts. On SQLite `INSERT OR
REPLACE` deletes the row in its way without firing a delete trigger, unless `PRAGMA recursive_triggers` is on. The
connection settings switch it on; the insert trigger refuses the new row even on a connection that forgot.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from django.apps import apps
from django.db import models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

_SQL = Path(__file__).parent / "sql"
_CREATED_TRIGGER = re.compile(r"CREATE (?:OR REPLACE )?TRIGGER (\w+)")


class AppendOnlyModel(models.Model):
    """Base of ledger-like rows: written once, corrected only by new rows."""

    # Further guards: `<app>/sql/<name>.<vendor>.sql`, each with its `<name>.<vendor>.reverse.sql`.
    guards: ClassVar[tuple[str, ...]] = ()

    class Meta:
        abstract = True


def append_only_tables() -> list[str]:
    """Return the table names of all append-only models, sorted."""
    return sorted(_models_by_table())


def install_triggers(connection: BaseDatabaseWrapper, tables: Iterable[str]) -> None:
    """Put the refusing triggers on `tables` that exist; safe to repeat, also while others write."""
    present = set(connection.introspection.table_names())
    for table in tables:
        if table in present:
            _execute(connection, _statements(connection.vendor, table))


def remove_triggers(connection: BaseDatabaseWrapper, tables: Iterable[str]) -> None:
    """Take the triggers off: the reverse files, for a migration that has to rebuild old rows."""
    for table in tables:
        _execute(connection, _statements(f"{connection.vendor}.reverse", table))


def lift_guards(connection: BaseDatabaseWrapper, app_label: str) -> None:
    """Take the triggers off an app's tables that have further guards, on SQLite; `post_migrate` puts them back.

    Such a guard reads other tables, and SQLite renames no table, which every rebuild ends with, while a trigger of
    another one names it.
    """
    if connection.vendor == "sqlite":
        guarded = [t for t, m in _models_by_table().items() if m.guards and m._meta.app_label == app_label]
        remove_triggers(connection, guarded)


def find_unprotected_tables(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the append-only tables whose triggers do not all stand."""
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
        if any((table, trigger) not in standing for trigger in _expected_triggers(connection.vendor, table))
    ]


def _models_by_table() -> dict[str, type[AppendOnlyModel]]:
    return {m._meta.db_table: m for m in apps.get_models() if issubclass(m, AppendOnlyModel)}


def _execute(connection: BaseDatabaseWrapper, statements: list[str]) -> None:
    # One transaction a table: there is no moment at which a row could slip past a trigger that is being replaced.
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _expected_triggers(vendor: str, table: str) -> list[str]:
    return [name for statement in _statements(vendor, table) for name in _CREATED_TRIGGER.findall(statement)]


def _statements(suffix: str, table: str) -> list[str]:
    model = _models_by_table()[table]
    own_folder = Path(apps.get_app_config(model._meta.app_label).path) / "sql"
    files = [
        _SQL / f"append_only.{suffix}.sql",
        *(own_folder / f"{guard}.{suffix}.sql" for guard in model.guards),
    ]
    filled = (
        file.read_text(encoding="utf-8").replace("{table}", table).replace("{taken}", _taken(model)) for file in files
    )
    return [part.strip() for text in filled for part in text.split("-- next\n") if part.strip()]


def _taken(model: type[AppendOnlyModel]) -> str:
    """Return the SQL that tells whether a NEW row meets one that is there, in any unique set of columns.

    A null meets nothing, which is also what the conditions of our conditional constraints say.
    """
    options = model._meta
    column_of = {field.name: str(field.column) for field in options.local_concrete_fields}
    # Not even looked for: every insert pays for these queries.
    given = {str(field.column): f"NEW.{field.column} IS NOT NULL AND " for field in options.local_fields if field.null}
    unique_sets = [[str(field.column)] for field in options.local_concrete_fields if field.unique]
    unique_sets += [
        [column_of[name] for name in constraint.fields]
        for constraint in options.constraints
        if isinstance(constraint, models.UniqueConstraint) and constraint.fields
    ]
    return " OR ".join(
        f"{''.join(given.get(c, '') for c in columns)}"
        f"EXISTS (SELECT 1 FROM {options.db_table} WHERE {' AND '.join(f'{c} = NEW.{c}' for c in columns)})"
        for columns in unique_sets
    )

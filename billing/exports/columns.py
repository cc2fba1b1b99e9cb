"""Columns of exports: what is read, in a text or number that is the same on both databases, and who may see it."""

from dataclasses import dataclass
from enum import StrEnum


class ColumnKind(StrEnum):
    """What a column's values are in Python, once they are read."""

    TEXT = "text"
    INTEGER = "integer"
    # Integer nano-USD, to be written as an exact decimal in USD.
    USD = "usd"
    # ISO 8601 in UTC with six decimals, as text.
    MOMENT = "moment"
    FLAG = "flag"
    # A JSON object, as the text that the database has of it.
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a dataset."""

    name: str
    sql: str
    kind: ColumnKind
    # Left out of what customers get: costs and names that are the platform's own affair.
    is_internal: bool = False
    # What customers get instead; empty: the same.
    customer_sql: str = ""

    def select(self, *, is_sqlite: bool, for_customer: bool = False) -> str:
        """Return the SQL of the value.

        Moments and JSON are made text by the database: its drivers need ten times longer for a datetime or a dict
        than for the text that ends up in the file.
        """
        sql = self.customer_sql if for_customer and self.customer_sql else self.sql
        if self.kind is ColumnKind.MOMENT:
            return _moment_text(sql, is_sqlite=is_sqlite)
        if self.kind is ColumnKind.JSON and not is_sqlite:
            return f"{sql}::text"
        return sql


def declare(alias: str, kind: ColumnKind, *names: str, is_internal: bool = False) -> tuple[Column, ...]:
    """Return columns that are called as in their table."""
    return tuple(Column(name=name, sql=f"{alias}.{name}", kind=kind, is_internal=is_internal) for name in names)


def declare_amounts(alias: str, *names: str, is_internal: bool = False) -> tuple[Column, ...]:
    """Return two columns for each amount: decimal USD and integer nano-USD."""
    found: list[Column] = []
    for name in names:
        sql = f"{alias}.{name}_nanousd"
        found.append(Column(name=f"{name}_usd", sql=sql, kind=ColumnKind.USD, is_internal=is_internal))
        found.append(Column(name=f"{name}_nanousd", sql=sql, kind=ColumnKind.INTEGER, is_internal=is_internal))
    return tuple(found)


def _moment_text(sql: str, *, is_sqlite: bool) -> str:
    if is_sqlite:
        # Django stores "2026-11-21 12:00:00", with up to six decimals behind it where there are any.
        decimals = f"substr(substr({sql}, 21) || '000000', 1, 6)"
        return f"substr({sql}, 1, 10) || 'T' || substr({sql}, 12, 8) || '.' || {decimals} || 'Z'"
    return f"""to_char({sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""

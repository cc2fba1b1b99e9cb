"""Sums of usage records in tables of their own: how records, and sums of shorter spans, are added to them."""

from collections.abc import Sequence
from dataclasses import dataclass

from billing.finance_models import SUMMED_COLUMNS
from common.sql import Sql

_FAULTS = "'failed', 'interrupted', 'lost'"
_COUNTED = ("calls", "faults", "errors")
_COUNTS = (
    "count(*)",
    f"sum(CASE WHEN status IN ({_FAULTS}) THEN 1 ELSE 0 END)",
    "sum(CASE WHEN error_code <> '' AND status <> 'cancelled' THEN 1 ELSE 0 END)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumTable:
    """A table of sums: over what span of time (also its column's name), and by which other columns."""

    name: str
    span: str
    group: tuple[str, ...]
    # Of the text of a moment on SQLite: how much says the span, and what follows it.
    kept: int
    rest: str


HOURS = SumTable(
    name="billing_usagehour",
    span="hour",
    group=("customer_id", "api_key_id", "model", "prompt", "prompt_version"),
    kept=13,
    rest=":00:00",
)
DAYS = SumTable(
    name="billing_usageday", span="day", group=("customer_id", "api_key_id", "model"), kept=10, rest=" 00:00:00"
)


def add_records(sql: Sql, into: SumTable, *, where: str, parameters: Sequence[object]) -> None:
    """Add the usage records that `where` chooses to the sums of their hours or days."""
    chosen = f"FROM billing_usagerecord WHERE {where}"
    sql.run(_insert(sql, into, moment="started_at", counts=_COUNTS, source=chosen), parameters)


def add_hours(sql: Sql) -> None:
    """Add all sums by the hour to those of their days."""
    counts = [f"sum({name})" for name in _COUNTED]
    # SQLite needs a WHERE before ON CONFLICT, to tell it from a join's.
    sql.run(_insert(sql, DAYS, moment=HOURS.span, counts=counts, source=f"FROM {HOURS.name} WHERE 1 = 1"))


def _insert(sql: Sql, into: SumTable, *, moment: str, counts: Sequence[str], source: str) -> str:
    start = f"date_trunc('{into.span}', {moment}, 'UTC')"
    if sql.is_sqlite:
        start = f"substr({moment}, 1, {into.kept}) || '{into.rest}'"
    names = ", ".join(into.group)
    columns = (*_COUNTED, *SUMMED_COLUMNS)
    sums = ", ".join((*counts, *(f"sum({column})" for column in SUMMED_COLUMNS)))
    return (
        f"INSERT INTO {into.name} ({into.span}, {names}, {', '.join(columns)})"
        f" SELECT {start}, {names}, {sums} {source} GROUP BY 1, {names}"
        f" ON CONFLICT ({into.span}, {names}) DO UPDATE SET "
        + ", ".join(f"{column} = {into.name}.{column} + excluded.{column}" for column in columns)
    )

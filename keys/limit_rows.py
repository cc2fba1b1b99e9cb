"""Reading and writing the counters of limits inside admission's transaction."""

from collections.abc import Collection, Iterable
from operator import attrgetter

from common.sql import Sql
from keys.limits import COUNTER_COLUMNS, Counters

_TABLE = "keys_limitstate"
_SELECT = f"SELECT {', '.join(COUNTER_COLUMNS)} FROM {_TABLE}"
_as_row = attrgetter(*COUNTER_COLUMNS[1:], "owner")


def lock_counters(sql: Sql, owners: Collection[str], now_us: int) -> dict[str, Counters]:
    """Lock and return the counters of `owners`, creating rows that do not exist yet.

    Rows are locked in the order of their names, after the accounts: every batch of every process takes its locks
    in the same order, so two batches cannot wait for each other.
    """
    found = _select(sql, owners)
    missing = [owner for owner in owners if owner not in found]
    if missing:
        # Another process may be creating the same rows: whoever comes second finds them.
        for owner in sorted(missing):
            sql.run(
                f"INSERT INTO {_TABLE} ({', '.join(COUNTER_COLUMNS)}) VALUES (%s, %s, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
                " ON CONFLICT (owner) DO NOTHING",
                (owner, now_us),
            )
        found = _select(sql, owners)
    return found


def write_counters(sql: Sql, changed: Iterable[Counters]) -> None:
    """Write the counters that a batch changed."""
    sql.update_integers(_TABLE, "owner", COUNTER_COLUMNS[1:], [_as_row(c) for c in changed])


def _select(sql: Sql, owners: Collection[str]) -> dict[str, Counters]:
    rows = sql.rows_where_in(_SELECT, "owner", owners, f"ORDER BY owner {sql.for_update}")
    return {row[0]: Counters(**dict(zip(COUNTER_COLUMNS, row, strict=True))) for row in rows}

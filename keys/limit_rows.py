"""Reading and writing the counters of limits: inside admission's transaction, and to show them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter

from common.sql import Sql
from keys.limits import COUNTER_COLUMNS, Counters, LimitKind, roll_forward, used_of
from keys.principals import Principal

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """A limit in force and what is used of it now. Money is in nano-USD."""

    kind: LimitKind
    # "customer" or "key".
    owner: str
    source: str
    limit: int
    used: int

    @property
    def is_money(self) -> bool:
        return self.kind in (LimitKind.SPEND_DAY, LimitKind.SPEND_MONTH)


def read_limits(sql: Sql, principal: Principal, now_us: int) -> list[LimitStatus]:
    """Return the limits of a principal as they stand at `now_us`, without locking or writing anything."""
    rows = sql.rows_where_in(_SELECT, "owner", [principal.customer_owner, principal.key_owner])
    found = {row[0]: Counters(**dict(zip(COUNTER_COLUMNS, row, strict=True))) for row in rows}
    statuses = []
    for owner, limits in (
        (principal.customer_owner, principal.customer_limits),
        (principal.key_owner, principal.key_limits),
    ):
        counters = found.get(owner) or Counters(owner=owner, updated_us=now_us)
        roll_forward(counters, limits, now_us)
        for kind, column, used in used_of(counters):
            limit = getattr(limits, column)
            if limit is not None:
                statuses.append(
                    LimitStatus(
                        kind=kind,
                        owner=owner.partition(":")[0],
                        source=limits.sources.get(column, ""),
                        limit=limit,
                        used=used,
                    )
                )
    return statuses

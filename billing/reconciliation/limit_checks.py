"""Checks on the counters of limits: places taken and budgets, recomputed from open holds and usage records."""

from collections.abc import Iterator
from dataclasses import dataclass

from billing.reconciliation.report import CheckResult, Difference, conclude
from common.sql import Row, Sql
from keys.limits import month_start_day

_DAY_US = 86_400_000_000
_ROWS_A_READ = 1_000
# Rows that were never rolled forward have month 0; a date needs the year 1.
_FIRST_MONTH = 12
_COUNTERS = (
    "SELECT owner, in_flight, day, day_posted_nanousd, day_held_nanousd, month, month_posted_nanousd,"
    f" month_held_nanousd FROM keys_limitstate WHERE owner > %s ORDER BY owner LIMIT {_ROWS_A_READ}"
)
_OWNER_COLUMNS = {"customer": "customer_id", "key": "api_key_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _HoldShare:
    """What one open hold takes of each of its owners."""

    request_id: str
    amount_nanousd: int
    day: int
    month: int


def check_limits(sql: Sql) -> CheckResult:
    """Each counter says what the holds and records of its window add up to."""
    holds = _holds_by_owner(sql)
    differences: list[Difference] = []
    examined = 0
    for row in _counters(sql):
        examined += 1
        differences += _counter_differences(sql, row, holds.pop(row[0], []))
    for owner, shares in sorted(holds.items()):
        differences += [
            Difference(
                row=f"hold {share.request_id}",
                what=f"the counters of {owner}",
                expected="a row",
                found="missing",
            )
            for share in shares
        ]
    return conclude(
        "limits",
        "places taken and budgets are the sums of open holds and usage",
        examined=examined,
        differences=differences,
    )


def _holds_by_owner(sql: Sql) -> dict[str, list[_HoldShare]]:
    found: dict[str, list[_HoldShare]] = {}
    for request_id, owners, amount, day, month in sql.rows(
        "SELECT request_id, owners, amount_nanousd, day, month FROM billing_hold ORDER BY request_id"
    ):
        share = _HoldShare(request_id=request_id, amount_nanousd=amount, day=day, month=month)
        for owner in owners.split(","):
            found.setdefault(owner, []).append(share)
    return found


def _counters(sql: Sql) -> Iterator[Row]:
    last_owner = ""
    while rows := sql.rows(_COUNTERS, (last_owner,)):
        yield from rows
        last_owner = rows[-1][0]


def _counter_differences(sql: Sql, row: Row, holds: list[_HoldShare]) -> Iterator[Difference]:
    owner, in_flight, day, day_posted, day_held, month, month_posted, month_held = row
    true_day_posted, true_month_posted = _charged_in_windows(sql, owner, day, month)
    for what, expected, found in (
        ("in_flight", len(holds), in_flight),
        ("day_held_nanousd", sum(h.amount_nanousd for h in holds if h.day == day), day_held),
        ("month_held_nanousd", sum(h.amount_nanousd for h in holds if h.month == month), month_held),
        ("day_posted_nanousd", true_day_posted, day_posted),
        ("month_posted_nanousd", true_month_posted, month_posted),
    ):
        if expected != found:
            yield Difference(row=f"limits of {owner}", what=what, expected=expected, found=found)


def _charged_in_windows(sql: Sql, owner: str, day: int, month: int) -> tuple[int, int]:
    """Return what was charged to the owner for calls that began in the day and in the month of its counters."""
    kind, _, owner_id = owner.partition(":")
    if kind not in _OWNER_COLUMNS or not owner_id.isdigit() or month < _FIRST_MONTH:
        return 0, 0
    days = sql.moment(day * _DAY_US), sql.moment((day + 1) * _DAY_US)
    months = sql.moment(month_start_day(month) * _DAY_US), sql.moment(month_start_day(month + 1) * _DAY_US)
    statement = (
        "SELECT coalesce(sum(charged_nanousd), 0) FROM billing_usagerecord"
        f" WHERE {_OWNER_COLUMNS[kind]} = %s AND started_at >= %s AND started_at < %s"
    )
    day_sum, month_sum = (sql.rows(statement, (int(owner_id), *bounds))[0][0] for bounds in (days, months))
    return int(day_sum), int(month_sum)

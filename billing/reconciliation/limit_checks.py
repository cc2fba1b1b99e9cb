"""Checks on the counters of limits: places taken and budgets, recomputed from open holds and usage records."""

from collections.abc import Iterator
from dataclasses import dataclass

from billing.reconciliation.report import CheckResult, Difference, conclude
from common.sql import Row, Sql
from keys.limit_rows import counters_of_hold
from keys.limits import month_start_day
from keys.lines import read_line_members

_DAY_US = 86_400_000_000
_ROWS_A_READ = 1_000
# Rows that were never rolled forward have month 0; a date needs the year 1.
_FIRST_MONTH = 12
_COUNTERS = (
    "SELECT owner, in_flight, day, day_posted_nanousd, day_held_nanousd, month, month_posted_nanousd,"
    " month_held_nanousd, total_posted_nanousd, total_held_nanousd"
    f" FROM keys_limitstate WHERE owner > %s ORDER BY owner LIMIT {_ROWS_A_READ}"
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
    members = read_line_members(sql)
    differences: list[Difference] = []
    examined = 0
    for row in _counters(sql):
        examined += 1
        differences += _counter_differences(sql, row, holds.pop(row[0], []), members)
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
        for owner in counters_of_hold(owners)[0]:
            found.setdefault(owner, []).append(share)
    return found


def _counters(sql: Sql) -> Iterator[Row]:
    last_owner = ""
    while rows := sql.rows(_COUNTERS, (last_owner,)):
        yield from rows
        last_owner = rows[-1][0]


def _counter_differences(
    sql: Sql, row: Row, holds: list[_HoldShare], members: dict[int, set[int]]
) -> Iterator[Difference]:
    owner, in_flight, day, day_posted, day_held, month, month_posted, month_held, total_posted, total_held = row
    true_day_posted, true_month_posted, true_total_posted = _charged_in_windows(sql, owner, day, month, members)
    for what, expected, found in (
        ("in_flight", len(holds), in_flight),
        ("day_held_nanousd", sum(h.amount_nanousd for h in holds if h.day == day), day_held),
        ("month_held_nanousd", sum(h.amount_nanousd for h in holds if h.month == month), month_held),
        ("total_held_nanousd", sum(h.amount_nanousd for h in holds), total_held),
        ("day_posted_nanousd", true_day_posted, day_posted),
        ("month_posted_nanousd", true_month_posted, month_posted),
        ("total_posted_nanousd", true_total_posted, total_posted),
    ):
        if expected != found:
            yield Difference(row=f"limits of {owner}", what=what, expected=expected, found=found)


def _charged_in_windows(
    sql: Sql, owner: str, day: int, month: int, members: dict[int, set[int]]
) -> tuple[int, int, int]:
    """Return what was charged to the owner for calls that began in its counters' day, in their month, and ever."""
    kind, _, owner_id = owner.partition(":")
    if kind not in _OWNER_COLUMNS or not owner_id.isdigit() or month < _FIRST_MONTH:
        return 0, 0, 0
    days = sql.moment(day * _DAY_US), sql.moment((day + 1) * _DAY_US)
    months = sql.moment(month_start_day(month) * _DAY_US), sql.moment(month_start_day(month + 1) * _DAY_US)
    # A line of keys counts the calls of all its keys and of those that they made.
    ids = {int(owner_id)} if kind == "customer" else members.get(int(owner_id), {int(owner_id)})
    condition, parameters = sql.condition_in(_OWNER_COLUMNS[kind], ids)
    sums = [0, 0, 0]
    # A call has its record, or has been archived and is part of the sums of its hour.
    for table, moment in (("billing_usagerecord", "started_at"), ("billing_usagehour", "hour")):
        total = f"SELECT coalesce(sum(charged_nanousd), 0) FROM {table} WHERE {condition}"
        windowed = f"{total} AND {moment} >= %s AND {moment} < %s"
        for place, bounds in enumerate((days, months)):
            sums[place] += int(sql.rows(windowed, (*parameters, *bounds))[0][0])
        sums[2] += int(sql.rows(total, parameters)[0][0])
    return sums[0], sums[1], sums[2]

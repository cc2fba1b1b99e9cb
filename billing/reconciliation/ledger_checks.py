"""Checks on accounts, transfers and holds; the database does the sums."""

from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper

from billing.reconciliation.report import MAX_LISTED, CheckResult, Difference, Value, conclude
from common.append_only import append_only_tables, find_unprotected_tables
from common.sql import Row, Sql

_RESOLVING = "('post', 'void', 'expire')"
# Uses the unique index of `pending_id`: one lookup a hold.
_UNRESOLVED = "NOT EXISTS (SELECT 1 FROM billing_transfer r WHERE r.pending_id = p.id)"
_LIMIT = f"LIMIT {MAX_LISTED + 1}"

_ACCOUNTS = f"""
WITH moved AS (
    SELECT credit_account_id AS account_id, sum(amount_nanousd) AS amount FROM billing_transfer
    WHERE kind IN ('direct', 'post') GROUP BY credit_account_id
    UNION ALL
    SELECT debit_account_id, -sum(amount_nanousd) FROM billing_transfer
    WHERE kind IN ('direct', 'post') GROUP BY debit_account_id
), posted AS (
    SELECT account_id, sum(amount) AS amount FROM moved GROUP BY account_id
), held AS (
    SELECT p.debit_account_id AS account_id, sum(p.amount_nanousd) AS amount FROM billing_transfer p
    WHERE p.kind = 'pending' AND {_UNRESOLVED} GROUP BY p.debit_account_id
)
SELECT a.code, a.posted_nanousd, CASE a.kind WHEN 'customer' THEN coalesce(posted.amount, 0) ELSE 0 END,
    a.held_nanousd, CASE a.kind WHEN 'customer' THEN coalesce(held.amount, 0) ELSE 0 END
FROM billing_account a LEFT JOIN posted ON posted.account_id = a.id LEFT JOIN held ON held.account_id = a.id
WHERE a.posted_nanousd <> CASE a.kind WHEN 'customer' THEN coalesce(posted.amount, 0) ELSE 0 END
    OR a.held_nanousd <> CASE a.kind WHEN 'customer' THEN coalesce(held.amount, 0) ELSE 0 END
ORDER BY a.id {_LIMIT}
"""

_RESOLVED_TWICE = f"""
SELECT pending_id, count(*) FROM billing_transfer WHERE pending_id IS NOT NULL
GROUP BY pending_id HAVING count(*) > 1 ORDER BY pending_id {_LIMIT}
"""

_MISMATCHED = f"""
SELECT r.id, r.kind, r.amount_nanousd, p.id, p.kind, p.amount_nanousd,
    p.debit_account_id = r.debit_account_id AND p.credit_account_id = r.credit_account_id,
    coalesce(p.request_id, '') = coalesce(r.request_id, '')
FROM billing_transfer r LEFT JOIN billing_transfer p ON p.id = r.pending_id
WHERE r.kind IN {_RESOLVING} AND (
    p.id IS NULL OR p.kind <> 'pending'
    OR p.debit_account_id <> r.debit_account_id OR p.credit_account_id <> r.credit_account_id
    OR coalesce(p.request_id, '') <> coalesce(r.request_id, '')
    OR CASE r.kind WHEN 'post' THEN r.amount_nanousd > p.amount_nanousd
        ELSE r.amount_nanousd <> p.amount_nanousd END)
ORDER BY r.id {_LIMIT}
"""

_PENDING_WITHOUT_HOLD = f"""
SELECT p.id, p.request_id, p.amount_nanousd, h.amount_nanousd FROM billing_transfer p
LEFT JOIN billing_hold h ON h.request_id = p.request_id AND h.pending_id = p.id
    AND h.account_id = p.debit_account_id
WHERE p.kind = 'pending' AND {_UNRESOLVED}
    AND (h.request_id IS NULL OR h.amount_nanousd <> p.amount_nanousd)
ORDER BY p.id {_LIMIT}
"""

_HOLD_WITHOUT_PENDING = f"""
SELECT h.request_id, h.amount_nanousd, h.pending_id FROM billing_hold h
WHERE (h.amount_nanousd > 0 AND NOT EXISTS (
        SELECT 1 FROM billing_transfer p WHERE p.id = h.pending_id AND p.kind = 'pending' AND {_UNRESOLVED}))
    OR (h.amount_nanousd = 0 AND h.pending_id IS NOT NULL)
ORDER BY h.request_id {_LIMIT}
"""


def check_accounts(sql: Sql) -> CheckResult:
    """Every customer's account holds what its transfers say; the platform's own keep no counter."""
    differences = []
    for code, posted, true_posted, held, true_held in sql.rows(_ACCOUNTS):
        row = f"account {code}"
        if posted != true_posted:
            differences.append(_unequal(row, "posted_nanousd", int(true_posted), posted))
        if held != true_held:
            differences.append(_unequal(row, "held_nanousd", int(true_held), held))
    return conclude(
        "accounts",
        "posted and held amounts are the sums of their transfers",
        examined=_count(sql, "billing_account"),
        differences=differences,
    )


def check_resolutions(sql: Sql) -> CheckResult:
    """Every hold is resolved at most once, by a row that fits it."""
    twice = [
        _unequal(f"transfer {pending_id}", "times that the hold is resolved", "at most 1", int(count))
        for pending_id, count in sql.rows(_RESOLVED_TWICE)
    ]
    return conclude(
        "resolutions",
        "each hold is resolved at most once, within its amount, between its accounts",
        examined=_count(sql, "billing_transfer"),
        differences=[*twice, *_mismatches(sql.rows(_MISMATCHED))],
    )


def _mismatches(rows: Iterable[Row]) -> Iterable[Difference]:
    for resolving_id, kind, amount, pending_id, pending_kind, pending_amount, same_accounts, same_request in rows:
        row = f"transfer {resolving_id} ({kind})"
        if pending_id is None or pending_kind != "pending":
            yield _unequal(row, "what it resolves", "a hold", f"{pending_kind or 'nothing'}")
            continue
        if not same_accounts:
            yield _unequal(row, "its accounts", f"those of hold {pending_id}", "others")
        if not same_request:
            yield _unequal(row, "its request", f"that of hold {pending_id}", "another")
        if amount > pending_amount or (kind != "post" and amount != pending_amount):
            bound = "at most " if kind == "post" else ""
            yield _unequal(row, "amount_nanousd", f"{bound}{pending_amount}, as transfer {pending_id} held", amount)


def check_holds(sql: Sql) -> CheckResult:
    """Unresolved PENDING transfers and open holds are the same set, with the same amounts."""
    differences = [
        _unequal(
            f"transfer {pending_id} (pending, {request_id})",
            "its open hold",
            f"{amount} nano-USD",
            "missing" if held is None else f"{held} nano-USD",
        )
        for pending_id, request_id, amount, held in sql.rows(_PENDING_WITHOUT_HOLD)
    ]
    for request_id, amount, pending_id in sql.rows(_HOLD_WITHOUT_PENDING):
        expected = "an unresolved PENDING transfer" if amount else "none for an amount of 0"
        found = "none" if pending_id is None else f"transfer {pending_id}, which is not one"
        differences.append(_unequal(f"hold {request_id}", "its transfer", expected, found))
    return conclude(
        "holds",
        "open holds and unresolved pending transfers are the same",
        examined=_count(sql, "billing_hold"),
        differences=differences,
    )


def check_triggers(connection: BaseDatabaseWrapper) -> CheckResult:
    """The triggers stand that keep rows of the ledger from being changed."""
    return conclude(
        "triggers",
        "append-only tables are protected by the database",
        examined=len(append_only_tables()),
        differences=[
            _unequal(f"table {table}", "its triggers", "in place", "missing (run manage.py migrate)")
            for table in find_unprotected_tables(connection)
        ],
    )


def _unequal(row: str, what: str, expected: Value, found: Value) -> Difference:
    return Difference(row=row, what=what, expected=expected, found=found)


def _count(sql: Sql, table: str) -> int:
    return int(sql.rows(f"SELECT count(*) FROM {table}")[0][0])

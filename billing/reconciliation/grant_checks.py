"""Checks on what wallets are made of: grants, what they have paid, and the prepaid part."""

from billing.reconciliation.report import MAX_LISTED, CheckResult, Difference, conclude
from common.sql import Sql

_USED = "SELECT grant_id, sum(amount_nanousd) AS used FROM billing_allocation GROUP BY grant_id"
_LIMIT = f"LIMIT {MAX_LISTED + 1}"

_OVERSPENT = f"""
SELECT g.id, g.amount_nanousd, u.used FROM billing_grant g JOIN ({_USED}) u ON u.grant_id = g.id
WHERE u.used > g.amount_nanousd ORDER BY g.id {_LIMIT}
"""
_TRANSFERS = f"""
SELECT g.id, g.amount_nanousd, t.amount_nanousd, g.account_id, t.credit_account_id
FROM billing_grant g JOIN billing_transfer t ON t.id = g.transfer_id
WHERE t.amount_nanousd <> g.amount_nanousd OR t.credit_account_id <> g.account_id ORDER BY g.id {_LIMIT}
"""
_EXPIRIES = f"""
SELECT a.id, a.amount_nanousd, t.amount_nanousd FROM billing_allocation a
JOIN billing_transfer t ON t.id = a.transfer_id JOIN billing_grant g ON g.id = a.grant_id
WHERE t.amount_nanousd <> a.amount_nanousd OR t.debit_account_id <> g.account_id ORDER BY a.id {_LIMIT}
"""
# What calls have spent since the last look must be nothing or more; the next look is due when the first open grant
# expires or the first planned one begins.
_WALLETS = f"""
SELECT a.code, a.posted_nanousd, a.prepaid_nanousd + coalesce(o.rest, 0), a.grants_due_us, o.first_us
FROM billing_account a LEFT JOIN (
    SELECT account_id, sum(rest) AS rest, min(due_us) AS first_us FROM (
        SELECT g.account_id, g.amount_nanousd - coalesce(u.used, 0) AS rest, g.expires_us AS due_us
        FROM billing_grant g LEFT JOIN ({_USED}) u ON u.grant_id = g.id
        WHERE g.amount_nanousd > coalesce(u.used, 0)
        UNION ALL
        SELECT w.id, 0, m.starts_us
        FROM billing_movement m JOIN billing_account w ON w.customer_id = m.customer_id WHERE m.status = 'planned'
    ) parts GROUP BY account_id
) o ON o.account_id = a.id
WHERE a.kind = 'customer' AND (a.posted_nanousd > a.prepaid_nanousd + coalesce(o.rest, 0)
    OR coalesce(a.grants_due_us, -1) <> coalesce(o.first_us, -1))
ORDER BY a.id {_LIMIT}
"""
_MOVEMENTS = f"""
SELECT m.id, m.amount_nanousd, t.amount_nanousd FROM billing_movement m JOIN billing_transfer t ON t.id = m.transfer_id
WHERE m.amount_nanousd <> t.amount_nanousd ORDER BY m.id {_LIMIT}
"""


def check_grants(sql: Sql) -> CheckResult:
    """Grants have paid at most what they are, and with the prepaid part make up their wallet."""
    differences = [
        Difference(row=f"grant {grant}", what="spent and expired", expected=f"at most {amount}", found=int(used))
        for grant, amount, used in sql.rows(_OVERSPENT)
    ]
    differences += [
        Difference(
            row=f"grant {grant}",
            what="its transfer",
            expected=f"{amount} nano-USD into account {account}",
            found=f"{moved} nano-USD into account {into}",
        )
        for grant, amount, moved, account, into in sql.rows(_TRANSFERS)
    ]
    differences += [
        Difference(row=f"allocation {row}", what="its transfer", expected=amount, found=moved)
        for row, amount, moved in sql.rows(_EXPIRIES)
    ]
    for code, posted, known, expiry, first in sql.rows(_WALLETS):
        if posted > known:
            what = "posted_nanousd, as the prepaid part and the grants allow"
            differences.append(Difference(row=f"account {code}", what=what, expected=f"at most {known}", found=posted))
        if expiry != first:
            found = "none" if expiry is None else expiry
            expected = "none" if first is None else first
            differences.append(Difference(row=f"account {code}", what="grants_due_us", expected=expected, found=found))
    differences += [
        Difference(row=f"movement {row}", what="its transfer", expected=amount, found=moved)
        for row, amount, moved in sql.rows(_MOVEMENTS)
    ]
    return conclude(
        "grants",
        "wallets are made of their prepaid part and what is left of their grants",
        examined=int(sql.rows("SELECT count(*) FROM billing_grant")[0][0]),
        differences=differences,
    )

"""Checks on what stands for usage: manifests and sums of archived records, sums of all records by the day."""

from billing.reconciliation.report import MAX_LISTED, CheckResult, Difference, conclude
from common.sql import Sql


def check_archives(sql: Sql) -> CheckResult:
    """For each archived day, manifests and sums agree, and no record that was archived is still there as well."""
    day_of_hour = "substr(hour, 1, 10)" if sql.is_sqlite else "(hour AT TIME ZONE 'UTC')::date"
    rows = sql.rows(f"""
        SELECT day, sum(named_calls), sum(calls), sum(named_charged), sum(charged), sum(named_cost), sum(cost) FROM (
            SELECT day, row_count AS named_calls, 0 AS calls, charged_nanousd AS named_charged, 0 AS charged,
                cost_nanousd AS named_cost, 0 AS cost FROM billing_usagearchive
            UNION ALL
            SELECT {day_of_hour}, 0, calls, 0, charged_nanousd, 0, cost_nanousd FROM billing_usagehour
        ) AS parts GROUP BY day ORDER BY day""")
    differences = [
        Difference(row=f"archived usage of {day}", what=what, expected=int(named), found=int(summed))
        for day, *figures in rows
        for what, named, summed in zip(_FIGURES, figures[::2], figures[1::2], strict=True)
        if named != summed
    ]
    differences += [
        Difference(row=f"archived usage of {day}", what="records that are still there", expected=0, found=count)
        for day, count in sql.rows(
            "SELECT a.day, count(*) FROM billing_usagearchive a JOIN billing_usagerecord u"
            " ON u.started_at >= a.starts_at AND u.started_at < a.ends_at AND u.id <= a.highest_id"
            f" GROUP BY a.day ORDER BY a.day LIMIT {MAX_LISTED}"
        )
    ]
    return conclude(
        "archives",
        "the manifests of archived usage are the sums that it left, and no record is counted twice",
        examined=len(rows),
        differences=differences,
    )


_FIGURES = ("calls", "charged_nanousd", "cost_nanousd")


_SUMMED = ("calls", "charged_nanousd", "cost_nanousd", "provider_cost_nanousd")
_OF_DAYS = f"""
SELECT customer_id, {", ".join(f"sum({name}), sum(x_{name})" for name in _SUMMED)} FROM (
    SELECT customer_id, {", ".join(f"{name}, 0 AS x_{name}" for name in _SUMMED)} FROM billing_usageday
    UNION ALL SELECT customer_id, {", ".join(f"0, {name}" for name in _SUMMED)} FROM billing_usagehour
    UNION ALL SELECT customer_id, 0, 1, {", ".join(f"0, {name}" for name in _SUMMED[1:])} FROM billing_usagerecord
        WHERE id <= %s
) parts GROUP BY customer_id HAVING {" OR ".join(f"sum({name}) <> sum(x_{name})" for name in _SUMMED)}
ORDER BY customer_id LIMIT {MAX_LISTED + 1}
"""


def check_usage_days(sql: Sql) -> CheckResult:
    """The sums by the day, which pages read instead of records, are those of all records up to the watermark."""
    marks = sql.rows("SELECT highest_id FROM billing_usagewatermark")
    differences = [
        Difference(row=f"customer {customer}", what=f"{name} of all days", expected=int(wanted), found=int(found))
        for (mark,) in marks
        for customer, *figures in sql.rows(_OF_DAYS, (mark,))
        for name, found, wanted in zip(_SUMMED, figures[::2], figures[1::2], strict=True)
        if found != wanted
    ]
    return conclude(
        "usage days",
        "the sums of usage by the day are those of its records",
        examined=int(sql.rows("SELECT count(*) FROM billing_usageday")[0][0]),
        differences=differences,
    )

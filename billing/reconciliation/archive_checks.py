"""Checks on archived usage: what was deleted is what manifests name, and what the sums by the hour say."""

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

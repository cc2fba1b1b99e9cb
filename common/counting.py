"""How many rows a list has, without counting millions: exactly as far as that is cheap, beyond that an estimate."""

import json
from typing import Any

from django.db import connection

from common.keyset import Search

_COUNTED_AT_MOST = 10_000
_DIGITS = 2


def describe_count(search: Search, *, is_whole_table: bool) -> str:
    """Return "1,234", "about 5,000,000", "more than 10,000", or nothing where the database cannot tell."""
    if search.is_indexed:
        # One row over: a branch that is cut short has more than can be counted.
        counts = [search.wanted.filter(b).order_by()[: _COUNTED_AT_MOST + 1].count() for b in search.branches]
        if sum(counts) <= _COUNTED_AT_MOST:
            return f"{sum(counts):,}"
    estimate = _estimate(search, is_whole_table=is_whole_table)
    if estimate is not None:
        return f"about {_round(estimate):,}"
    return f"more than {_COUNTED_AT_MOST:,}" if search.is_indexed else ""


def _estimate(search: Search, *, is_whole_table: bool) -> int | None:
    if connection.vendor == "postgresql":
        plan: Any = json.loads(search.wanted.order_by().values("pk").explain(format="json"))
        return int(plan[0]["Plan"]["Plan Rows"])
    if is_whole_table:
        # Ids are given out in order and rows are seldom removed.
        # Two queries: SQLite reads the whole table for the least and the greatest in one.
        lowest, highest = (
            search.wanted.order_by(order).values_list("pk", flat=True)[:1].get() for order in ("pk", "-pk")
        )
        return int(highest - lowest + 1)
    return None


def _round(estimate: int) -> int:
    """Return it with two digits: more would be believed."""
    return round(estimate, _DIGITS - len(str(estimate)))

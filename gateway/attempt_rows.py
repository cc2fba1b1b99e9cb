"""Rows of attempts, for calls that needed several or failed: what each deployment did, and what it cost us.

A customer pays for the call, once, by its usage record; what failed attempts cost the platform stands here alone. Rows
are written in the transaction of the call's settlement, inside a savepoint: whatever fails here, the booking stands.
"""

from collections.abc import Sequence
from typing import NamedTuple

from common.sql import Sql

KEPT_DAYS = 30
_KEPT_US = KEPT_DAYS * 86_400_000_000
_PRUNE_LIMIT = 500


class NewAttempt(NamedTuple):
    """A row, but for when it was written."""

    request_id: str
    number: int
    customer_id: int
    model: str
    deployment_ref: int
    upstream: str
    upstream_model: str
    outcome: str
    is_billed: bool
    input_tokens: int
    output_tokens: int
    is_estimated: bool
    provider_cost_nanousd: int
    upstream_ms: int


_COLUMNS = (*NewAttempt._fields, "created_us")
_INSERT = (
    f"INSERT INTO gateway_callattempt ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    " ON CONFLICT (request_id, number) DO NOTHING"
)


def write_attempts(sql: Sql, attempts: Sequence[NewAttempt], *, now_us: int) -> None:
    """Keep the attempts of settled calls. Never raises for what goes wrong with them."""
    if not attempts:
        return
    with sql.sparing(f"{len(attempts)} attempts"):
        for attempt in attempts:
            sql.run(_INSERT, (*attempt, now_us))


def prune_attempts(sql: Sql, *, now_us: int) -> None:
    """Remove some of what is older than `KEPT_DAYS`."""
    sql.run(
        "DELETE FROM gateway_callattempt WHERE id IN (SELECT id FROM gateway_callattempt WHERE created_us <= %s"
        f" ORDER BY created_us LIMIT {_PRUNE_LIMIT})",
        (now_us - _KEPT_US,),
    )

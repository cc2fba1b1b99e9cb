"""Rows of breakers: written by whoever changes a state, read by every clerk when the generation of health moved."""

import logging
from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from common.clock import to_us
from common.sql import Sql
from gateway.breakers import BookStanding, BreakerState, HealthBook
from gateway.models import Breaker, BreakerReason
from keys.audit import Actor, record_event

logger = logging.getLogger(__name__)

_COLUMNS = BreakerState._fields
_INSERT = (
    f"INSERT INTO gateway_breaker ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    f" ON CONFLICT (deployment_id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _COLUMNS[1:])}"
    " WHERE gateway_breaker.changed_us < excluded.changed_us"
)


def read_health(sql: Sql, generation: int) -> HealthBook:
    """Return all states, as of a generation."""
    rows = sql.rows(f"SELECT {', '.join(_COLUMNS)} FROM gateway_breaker")
    states = (BreakerState(row[0], bool(row[1]), *row[2:]) for row in rows)
    return HealthBook(generation, {state.deployment_id: state for state in states})


def read_standing(sql: Sql) -> BookStanding:
    """Return what all processes know by now."""
    return BookStanding(read_health(sql, 0))


def write_breakers(sql: Sql, states: Sequence[BreakerState]) -> None:
    """Tell the other processes. Never raises for what goes wrong with it: each of them finds out by itself."""
    if not states:
        return
    sql.run("SAVEPOINT breakers")
    try:
        ids = [state.deployment_id for state in states]
        known = {found for (found,) in sql.rows_where_in("SELECT id FROM gateway_deployment", "id", ids)}
        # In the order of deployments: two batches that write the same rows must not wait for each other.
        for state in sorted(states, key=lambda state: (state.deployment_id, state.changed_us)):
            if state.deployment_id in known:
                sql.run(_INSERT, state)
    except Exception:
        logger.exception("%d states of breakers were not stored", len(states))
        sql.run("ROLLBACK TO SAVEPOINT breakers")
    sql.run("RELEASE SAVEPOINT breakers")


def reset_breaker(*, deployment_id: int, actor: Actor, reason: str) -> Breaker:
    """Let a deployment be called again at once, on every process. Raises Breaker.DoesNotExist where none is open."""
    with transaction.atomic():
        row = Breaker.objects.select_for_update().select_related("deployment").get(pk=deployment_id, is_open=True)
        before = {"is_open": True, "reason": row.reason, "trips": row.trips}
        row.is_open, row.reason, row.error_code, row.trips = False, BreakerReason.RESET, "", 0
        row.until_us = 0
        row.changed_us = max(to_us(timezone.now()), row.changed_us + 1)
        row.save()
        record_event(
            actor=actor,
            action="breaker.reset",
            target=row.deployment,
            before=before,
            after={"is_open": False, "reason": row.reason.value, "trips": 0},
            reason=reason,
        )
    return row

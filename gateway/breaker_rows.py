"""Rows of breakers: written by whoever changes a state, read by every clerk when the generation of health moved.

The row also decides who of all processes tries a deployment whose rest is over: whoever sets `trial_until_us`.
"""

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from common.clock import to_us
from common.sql import Sql
from gateway.admission.commands import ClaimTrial, EndTrial, NoteBreaker, TrialClaimed
from gateway.breakers import BookStanding, BreakerState, HealthBook
from gateway.models import Breaker, BreakerReason
from keys.audit import Actor, record_event

_COLUMNS = BreakerState._fields
_INSERT = (
    f"INSERT INTO gateway_breaker ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    f" ON CONFLICT (deployment_id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _COLUMNS[1:])}"
    " WHERE gateway_breaker.changed_us < excluded.changed_us"
)
_CLAIM = (
    "UPDATE gateway_breaker SET trial_until_us = %s"
    " WHERE deployment_id = %s AND is_open AND until_us <= %s AND trial_until_us <= %s"
)
_READ_TRIAL = (
    "SELECT CASE WHEN until_us > trial_until_us THEN until_us ELSE trial_until_us END"
    " FROM gateway_breaker WHERE deployment_id = %s AND is_open"
)
_END = "UPDATE gateway_breaker SET trial_until_us = 0 WHERE deployment_id = %s AND trial_until_us = %s"
_UNKNOWN_US = 1_000_000

BreakerCommand = NoteBreaker | ClaimTrial | EndTrial


def read_health(sql: Sql, generation: int) -> HealthBook:
    """Return all states, as of a generation."""
    rows = sql.rows(f"SELECT {', '.join(_COLUMNS)} FROM gateway_breaker")
    states = (BreakerState(row[0], bool(row[1]), *row[2:]) for row in rows)
    return HealthBook(generation, {state.deployment_id: state for state in states})


def read_standing(sql: Sql) -> BookStanding:
    """Return what all processes know by now."""
    return BookStanding(read_health(sql, 0))


def write_breakers(sql: Sql, commands: Sequence[tuple[int, BreakerCommand]], *, now_us: int) -> dict[int, TrialClaimed]:
    """Tell the other processes, and claim trials before them; return the answers of claims by their positions.

    Never raises for what goes wrong with it: each process finds out by itself, and a claim that fails is none.
    """
    if not commands:
        return {}
    answers = {
        position: TrialClaimed(until_us=now_us + _UNKNOWN_US)
        for position, command in commands
        if isinstance(command, ClaimTrial)
    }
    claimed: dict[int, TrialClaimed] = {}
    with sql.sparing(f"{len(commands)} states of breakers"):
        ids = [command.deployment_id for _, command in commands]
        known = {found for (found,) in sql.rows_where_in("SELECT id FROM gateway_deployment", "id", ids)}
        # In the order of deployments: two batches that write the same rows must not wait for each other.
        for position, command in sorted(commands, key=lambda found: (found[1].deployment_id, found[0])):
            if command.deployment_id not in known:
                continue
            match command:
                case NoteBreaker(state=state):
                    sql.run(_INSERT, state)
                case ClaimTrial(state=state):
                    claimed[position] = _claim_trial(sql, state, now_us=now_us)
                case EndTrial(deployment_id=deployment_id, until_us=until_us):
                    sql.run(_END, (deployment_id, until_us))
        # Only now: what fails is undone, with what had been claimed before it.
        answers |= claimed
    return answers


def _claim_trial(sql: Sql, state: BreakerState, *, now_us: int) -> TrialClaimed:
    # Should the database have failed when the breaker opened, nobody could claim a trial: there would be no row.
    sql.run(_INSERT, state._replace(trial_until_us=0))
    if sql.run(_CLAIM, (state.trial_until_us, state.deployment_id, now_us, now_us)):
        return TrialClaimed(until_us=state.trial_until_us)
    found = sql.rows(_READ_TRIAL, (state.deployment_id,))
    return TrialClaimed(until_us=found[0][0] if found else 0)


def reset_breaker(*, deployment_id: int, actor: Actor, reason: str) -> Breaker:
    """Let a deployment be called again at once, on every process. Raises Breaker.DoesNotExist where none is open."""
    with transaction.atomic():
        row = Breaker.objects.select_for_update().select_related("deployment").get(pk=deployment_id, is_open=True)
        before = {"is_open": True, "reason": row.reason, "trips": row.trips}
        row.is_open, row.reason, row.error_code, row.trips = False, BreakerReason.RESET, "", 0
        row.until_us = row.trial_until_us = 0
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

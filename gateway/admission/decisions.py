"""The decision itself: state and one question in, an answer and changed state out. No I/O, no clock of its own.

A batch passes the same state from question to question, so that the order in the queue is the order of the
decisions, and two calls of one batch cannot both take the last place.
"""

from dataclasses import dataclass, field

from billing.errors import InsufficientBalance
from billing.journal import AccountState, EarlierUsage, NewUsage, OpenHold
from billing.models import TransferKind
from common.errors import AuthenticationFailed
from common.sql import Row
from gateway.admission.commands import Admit, Admitted, Refused, Settled, Stale
from keys import limits as limit_rules
from keys.errors import refusal_error
from keys.limits import Counters, Demand, LimitKind, LimitReading, LimitValues
from keys.principals import Principal, principal_of_row


@dataclass(slots=True, kw_only=True)
class AdmissionState:
    """Everything that the questions of a batch touch, locked by its transaction."""

    now_us: int
    catalogue_generation: int
    key_rows: dict[int, Row]
    accounts: dict[int, AccountState]
    counters: dict[str, Counters]
    holds: dict[str, OpenHold] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A transfer that a decision asks for; ids are given when the batch is written."""

    kind: TransferKind
    account_id: int
    amount_nanousd: int
    request_id: str
    pending_id: int | None = None
    reason: str = ""


def decide_admission(state: AdmissionState, question: Admit) -> Admitted | Refused | Stale:
    """Admit all-or-nothing: key valid, every limit and budget of customer and key, money. A refusal takes nothing."""
    principal = question.principal
    row = state.key_rows.get(principal.key_id)
    if row is None or row != principal.row or question.catalogue_generation != state.catalogue_generation:
        return Stale(principal=None if row is None else principal_of_row(row))
    if not principal.is_active(state.now_us):
        return Refused(error=AuthenticationFailed())
    demand = Demand(
        input_tokens=question.input_tokens,
        output_tokens=question.output_tokens,
        amount_nanousd=question.amount_nanousd,
    )
    owners = _roll_owners(state, principal)
    for counters, limits in owners:
        refusal = limit_rules.find_refusal(counters, limits, demand, state.now_us)
        if refusal is not None:
            return Refused(error=refusal_error(refusal), limits=_tightest_readings(owners))
    account = state.accounts[principal.customer_id]
    if question.amount_nanousd > account.available_nanousd and question.amount_nanousd > 0:
        error = InsufficientBalance(
            needed_nanousd=question.amount_nanousd,
            available_nanousd=account.available_nanousd,
            held_nanousd=account.held_nanousd,
        )
        return Refused(error=error, limits=_tightest_readings(owners))
    for counters, limits in owners:
        limit_rules.take(counters, limits, demand)
    account.held_nanousd += question.amount_nanousd
    return Admitted(
        request_id=question.request_id,
        started_us=state.now_us,
        amount_nanousd=question.amount_nanousd,
        available_nanousd=account.available_nanousd,
        limits=_tightest_readings(owners),
    )


def decide_settlement(
    state: AdmissionState, hold: OpenHold, usage: NewUsage, *, is_expiry: bool
) -> tuple[Settled, list[Movement]]:
    """Resolve an open hold with what the call really used; return the answer and the transfers to write.

    A call never costs more than its hold: the charge is the cost, at most what was held. A provider that reports more
    (a lying one, or an estimate that fell short) leaves the platform with the difference, visible as
    `cost - charged` on the flagged usage record.
    """
    account = state.accounts[usage.customer_id]
    charged = min(usage.cost_nanousd, hold.amount_nanousd)
    account.held_nanousd -= hold.amount_nanousd
    account.posted_nanousd -= charged
    demand = Demand(
        input_tokens=hold.input_tokens, output_tokens=hold.output_tokens, amount_nanousd=hold.amount_nanousd
    )
    used = usage.tokens
    for owner in hold.owners.split(","):
        limit_rules.settle(
            state.counters[owner],
            held=demand,
            held_day=hold.day,
            held_month=hold.month,
            used_input_tokens=used.input_total,
            used_output_tokens=used.output_total,
            charged_nanousd=charged,
        )
    settled = Settled(charged_nanousd=charged, available_nanousd=account.available_nanousd)
    if hold.pending_id is None:
        return settled, []
    release = TransferKind.EXPIRE if is_expiry else TransferKind.VOID
    movement = Movement(
        kind=TransferKind.POST if charged else release,
        account_id=hold.account_id,
        amount_nanousd=charged or hold.amount_nanousd,
        request_id=hold.request_id,
        pending_id=hold.pending_id,
    )
    return settled, [movement]


def decide_late_settlement(
    state: AdmissionState, usage: NewUsage, principal: Principal, before: EarlierUsage
) -> tuple[Settled, list[Movement]]:
    """Charge a call whose hold expired under it (its process could not reach the database for a whole lease).

    What was reserved may have gone to other calls since, so no more is taken than the hold was, than is available
    now, and than the budgets of the call's day and month still allow.
    """
    account = state.accounts[usage.customer_id]
    owners = _roll_owners(state, principal)
    day, month = limit_rules.day_number(usage.started_us), limit_rules.month_number(usage.started_us)
    due = min(usage.cost_nanousd, before.held_nanousd) - before.charged_nanousd
    room = [limit_rules.budget_left(counters, limits, day=day, month=month) for counters, limits in owners]
    charged = max(0, min([due, account.available_nanousd, *(left for left in room if left is not None)]))
    account.posted_nanousd -= charged
    for counters, _ in owners:
        if counters.day == day:
            counters.day_posted_nanousd += charged
        if counters.month == month:
            counters.month_posted_nanousd += charged
    movements = []
    if charged:
        movements.append(
            Movement(
                kind=TransferKind.DIRECT,
                account_id=account.id,
                amount_nanousd=charged,
                request_id=usage.request_id,
                reason="settled after its hold expired",
            )
        )
    return Settled(charged_nanousd=charged, available_nanousd=account.available_nanousd), movements


def _roll_owners(state: AdmissionState, principal: Principal) -> tuple[tuple[Counters, LimitValues], ...]:
    """Bring the counters of customer and key to one moment and return them with their limits.

    The moment is the latest that any of them has seen: where another machine's clock is ahead, both must be in the
    same day, because a hold remembers one.
    """
    owners = (
        (state.counters[principal.customer_owner], principal.customer_limits),
        (state.counters[principal.key_owner], principal.key_limits),
    )
    moment_us = max(state.now_us, owners[0][0].updated_us, owners[1][0].updated_us)
    for counters, limits in owners:
        limit_rules.roll_forward(counters, limits, moment_us)
    return owners


def _tightest_readings(owners: tuple[tuple[Counters, LimitValues], ...]) -> tuple[LimitReading, ...]:
    """Return one reading a kind: that of the owner with the least left."""
    tightest: dict[LimitKind, LimitReading] = {}
    for counters, limits in owners:
        for reading in limit_rules.readings(counters, limits):
            known = tightest.get(reading.kind)
            if known is None or reading.remaining < known.remaining:
                tightest[reading.kind] = reading
    return tuple(tightest.values())

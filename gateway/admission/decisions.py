"""The decision itself: state and one question in, an answer and changed state out. No I/O, no clock of its own.

A batch passes the same state from question to question, so that the order in the queue is the order of the
decisions, and two calls of one batch cannot both take the last place.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from billing.errors import InsufficientBalance
from billing.journal import AccountState, EarlierUsage, NewUsage, OpenHold
from billing.models import TransferKind
from billing.tokens import NO_TOKENS
from billing.waiving import is_waived
from common.errors import AuthenticationFailed, TollkeeperError
from common.sql import Row
from gateway.admission.commands import (
    NO_MARKS,
    Admit,
    Admitted,
    OwnerMarks,
    Refused,
    Replayed,
    Reuse,
    Reused,
    Settled,
    Stale,
)
from gateway.errors import IdempotencyAnswerLost, IdempotencyInFlight, IdempotencyKeyReused
from gateway.idempotency import Claim, ClaimKey, KnownClaim
from keys import limits as limit_rules
from keys.errors import refusal_error
from keys.limit_rows import counters_of_hold, write_owners
from keys.limit_values import EndpointClass, counter_name
from keys.limits import Counters, Demand, LimitReading, OwnerState
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
    claims: dict[ClaimKey, KnownClaim] = field(default_factory=dict)


class Movement(NamedTuple):
    """A transfer that a decision asks for; ids are given when the batch is written."""

    kind: TransferKind
    account_id: int
    amount_nanousd: int
    request_id: str
    pending_id: int | None = None
    reason: str = ""


def decide_admission(state: AdmissionState, question: Admit) -> Admitted | Replayed | Refused | Stale:
    """Admit all-or-nothing: key valid, every limit and budget of customer, key and its makers, money.

    A refusal takes nothing. A call whose Idempotency-Key is known takes nothing either.
    """
    principal = question.principal
    row = state.key_rows.get(principal.key_id)
    if row is None or row != principal.row or question.catalogue_generation != state.catalogue_generation:
        return Stale(principal=None if row is None else principal_of_row(row))
    if not principal.is_active(state.now_us):
        return Refused(error=AuthenticationFailed())
    if question.claim is not None:
        known = state.claims.get((principal.customer_id, question.claim.key))
        if known is not None and known.expires_us > state.now_us:
            return _decide_repeat(known, question.claim, state.accounts[principal.customer_id])
    demand = Demand(
        input_tokens=question.input_tokens,
        output_tokens=question.output_tokens,
        amount_nanousd=question.amount_nanousd,
    )
    endpoint_class = question.endpoint_class
    owners = _roll_owners(state, principal, endpoint_class)
    for owner in owners:
        refusal = limit_rules.find_refusal(owner, demand, state.now_us, endpoint_class)
        if refusal is not None:
            return _refuse(state, refusal_error(refusal), owners, endpoint_class)
    account = state.accounts[principal.customer_id]
    if question.amount_nanousd > account.available_nanousd and question.amount_nanousd > 0:
        error = InsufficientBalance(
            needed_nanousd=question.amount_nanousd,
            available_nanousd=account.available_nanousd,
            held_nanousd=account.held_nanousd,
        )
        return _refuse(state, error, owners, endpoint_class)
    marks = tuple(limit_rules.take(owner, demand, endpoint_class) for owner in owners)
    account.held_nanousd += question.amount_nanousd
    return Admitted(
        request_id=question.request_id,
        started_us=state.now_us,
        amount_nanousd=question.amount_nanousd,
        available_nanousd=account.available_nanousd,
        limits=limit_rules.tightest(_readings(state, owners, endpoint_class)),
        marks=marks,
    )


def decide_settlement(
    state: AdmissionState,
    hold: OpenHold,
    usage: NewUsage,
    *,
    is_expiry: bool,
    marks: OwnerMarks = NO_MARKS,
) -> tuple[Settled, list[Movement]]:
    """Resolve an open hold with what the call really used; return the answer and the transfers to write.

    `marks` is what the call's admission answered; an expired call has none, and its tokens come back by refilling.

    A call never costs more than its hold: the charge is the cost, at most what was held. A provider that reports more
    (a lying one, or an estimate that fell short) leaves the platform with the difference, visible as
    `cost - charged` on the flagged usage record.
    """
    account = state.accounts[usage.customer_id]
    charged = _due(usage, hold.amount_nanousd)
    account.held_nanousd -= hold.amount_nanousd
    account.posted_nanousd -= charged
    demand = Demand(
        input_tokens=hold.input_tokens, output_tokens=hold.output_tokens, amount_nanousd=hold.amount_nanousd
    )
    # A reused answer counts as a request, not by its size: nobody had to produce it.
    used = NO_TOKENS if usage.is_reused else usage.tokens
    names, rated_names = counters_of_hold(hold.owners)
    for owner in names:
        limit_rules.settle_main(
            state.counters[owner],
            held_nanousd=hold.amount_nanousd,
            held_day=hold.day,
            held_month=hold.month,
            charged_nanousd=charged,
        )
    # Strict only where there are marks: without them no tokens come back.
    for owner, mark in zip(rated_names if marks else (), marks, strict=True):
        limit_rules.settle_rates(
            state.counters[owner],
            held=demand,
            marks=mark,
            used_input=used.input_total,
            used_output=used.output_total,
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


def decide_reuse(state: AdmissionState, question: Reuse) -> tuple[Reused | Replayed | Refused | Stale, list[Movement]]:
    """Admit a call whose answer is known and settle it, in one: it is held to what any call is held to.

    Nothing was held, so what it costs is moved directly.
    """
    admitted = decide_admission(state, question.admit)
    if not isinstance(admitted, Admitted):
        return admitted, []
    principal = question.admit.principal
    account, counters = state.accounts[principal.customer_id], state.counters[principal.customer_owner]
    hold = OpenHold(
        request_id=question.admit.request_id,
        account_id=account.id,
        amount_nanousd=question.admit.amount_nanousd,
        worker_id=0,
        owners=write_owners(principal, question.admit.endpoint_class),
        input_tokens=0,
        output_tokens=0,
        day=counters.day,
        month=counters.month,
        progress_tokens=0,
        draft="",
        created_us=state.now_us,
        expires_us=state.now_us,
    )
    settled, _ = decide_settlement(state, hold, question.usage, is_expiry=False)
    movements = []
    if settled.charged_nanousd:
        movements.append(
            Movement(
                kind=TransferKind.DIRECT,
                account_id=account.id,
                amount_nanousd=settled.charged_nanousd,
                request_id=question.admit.request_id,
                reason="reused answer",
            )
        )
    return Reused(settled.charged_nanousd, settled.available_nanousd, admitted.limits), movements


def decide_late_settlement(
    state: AdmissionState, usage: NewUsage, principal: Principal, before: EarlierUsage
) -> tuple[Settled, list[Movement]]:
    """Charge a call whose hold expired under it (its process could not reach the database for a whole lease).

    What was reserved may have gone to other calls since, so no more is taken than the hold was, than is available
    now, and than the budgets of the call's day and month still allow.
    """
    account = state.accounts[usage.customer_id]
    owners = _roll_owners(state, principal, EndpointClass.CHAT)
    day, month = limit_rules.day_number(usage.started_us), limit_rules.month_number(usage.started_us)
    due = _due(usage, before.held_nanousd) - before.charged_nanousd
    room = [limit_rules.budget_left(owner.main, owner.limits, day=day, month=month) for owner in owners]
    charged = max(0, min([due, account.available_nanousd, *(left for left in room if left is not None)]))
    account.posted_nanousd -= charged
    for owner in owners:
        limit_rules.post_late(owner.main, day=day, month=month, charged_nanousd=charged)
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


def _due(usage: NewUsage, held_nanousd: int) -> int:
    """Return what the customer owes for a call: its cost, at most what was held, nothing where its flags waive it."""
    if usage.flags and is_waived(usage.flags):
        return 0
    return min(usage.cost_nanousd, held_nanousd)


def _decide_repeat(known: KnownClaim, claim: Claim, account: AccountState) -> Replayed | Refused:
    if known.fingerprint != claim.fingerprint:
        return Refused(error=IdempotencyKeyReused(request_id=known.request_id))
    if known.answer is None:
        return Refused(error=IdempotencyInFlight(request_id=known.request_id))
    if known.answer.body is None:
        return Refused(error=IdempotencyAnswerLost(request_id=known.request_id))
    return Replayed(answer=known.answer, available_nanousd=account.available_nanousd)


def _roll_owners(state: AdmissionState, principal: Principal, endpoint_class: str) -> tuple[OwnerState, ...]:
    """Bring the counters of customer, key and its makers to one moment and return them with their limits.

    The moment is the latest that any of them has seen: where another machine's clock is ahead, all must be in the
    same day, because a hold remembers one.
    """
    counters = [state.counters[name] for name in principal.owner_names]
    moment_us = max(state.now_us, *[row.updated_us for row in counters])
    owners = []
    for main, owner, limits in zip(counters, principal.owners, principal.limits_at(moment_us), strict=True):
        limit_rules.roll_forward(main, limits, moment_us)
        rated = main
        if endpoint_class != EndpointClass.CHAT:
            rated = state.counters[counter_name(owner.name, endpoint_class)]
            limit_rules.roll_forward(rated, limits, moment_us, endpoint_class)
        owners.append(OwnerState(main, rated, limits, owner.kind))
    return tuple(owners)


def _refuse(
    state: AdmissionState, error: TollkeeperError, owners: tuple[OwnerState, ...], endpoint_class: str
) -> Refused:
    checked = tuple(_readings(state, owners, endpoint_class))
    return Refused(error=error, limits=limit_rules.tightest(checked), checked=checked)


def _readings(state: AdmissionState, owners: tuple[OwnerState, ...], endpoint_class: str) -> list[LimitReading]:
    return [reading for owner in owners for reading in limit_rules.readings(owner, state.now_us, endpoint_class)]

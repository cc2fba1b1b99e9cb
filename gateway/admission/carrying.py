"""What each question comes to: its decision, and the writes that follow from it.

The decisions are pure (`gateway.admission.decisions`); here they move the batch's state and are noted to be written.
"""

import logging

from billing import journal
from billing.journal import BookedUsage, OpenHold
from common.sql import Sql
from gateway.admission.commands import Admit, Admitted, Answer, Refused, Reuse, Reused, Settle, Settled
from gateway.admission.context import BatchContext
from gateway.admission.decisions import (
    AdmissionState,
    decide_admission,
    decide_late_settlement,
    decide_reuse,
    decide_settlement,
)
from gateway.admission.expiry import findings_of_expired, usage_of_expired, usage_of_unreadable
from gateway.admission.writes import Writes
from gateway.guard_rows import without_held
from gateway.idempotency import KEEP_US, KnownClaim, NewClaim, StoredAnswer
from gateway.refusals import NewRefusal
from keys.limit_rows import write_owners

logger = logging.getLogger(__name__)

_LAST_USED_EVERY_US = 60_000_000


def expire(state: AdmissionState, writes: Writes, hold: OpenHold, context: BatchContext) -> None:
    """Resolve a hold whose time or whose process has run out, unless somebody else did."""
    if state.holds.pop(hold.request_id, None) is None:
        return
    try:
        usage = usage_of_expired(hold, context.catalogue.prices, now_us=state.now_us)
        findings, is_readable = findings_of_expired(hold), True
    except (KeyError, TypeError, ValueError):
        # One draft that cannot be read (written by another version, say) must not fail every batch from now on.
        logger.critical("the draft of an expired hold cannot be read, it is released without a record: %s", hold)
        usage, findings, is_readable = usage_of_unreadable(hold), None, False
    settled, movements = decide_settlement(state, hold, usage, is_expiry=True)
    writes.movements += movements
    writes.has_changed = True
    _end_claim(state, writes, hold.request_id, None)
    if is_readable:
        writes.usage.append(BookedUsage(usage=usage, charged_nanousd=settled.charged_nanousd))
    if findings is not None:
        writes.findings.append(findings)


def settle(sql: Sql, state: AdmissionState, writes: Writes, command: Settle) -> Settled:
    """Book a call that has ended, also one whose hold was resolved before, and one that was booked before."""
    usage, findings = command.usage, command.findings
    hold = state.holds.pop(usage.request_id, None)
    if hold is not None:
        settled, movements = decide_settlement(state, hold, usage, is_expiry=False, marks=command.marks)
        booked = BookedUsage(usage=usage, charged_nanousd=settled.charged_nanousd)
        if command.has_claim:
            _end_claim(state, writes, usage.request_id, command.answer)
    else:
        before = journal.read_earlier_usage(sql, usage.request_id, writes.usage)
        if before.was_settled:
            # A repeat of a settlement whose commit got through although its answer did not.
            available = state.accounts[usage.customer_id].available_nanousd
            return Settled(charged_nanousd=before.charged_nanousd, available_nanousd=available)
        settled, movements = decide_late_settlement(state, usage, command.principal, before)
        if findings is not None and before.was_lost:
            findings = without_held(findings)
        booked = BookedUsage(usage=usage, charged_nanousd=settled.charged_nanousd, sequence=1, flag="late_settlement")
    writes.movements += movements
    writes.usage.append(booked)
    if command.attempts:
        writes.attempts += command.attempts
    if findings is not None:
        writes.findings.append(findings)
    writes.has_changed = True
    return settled


def _end_claim(state: AdmissionState, writes: Writes, request_id: str, answer: StoredAnswer | None) -> None:
    """Keep the answer of a call for its repeats, those of this batch included; without one, free its key."""
    if answer is None:
        writes.released.append(request_id)
    else:
        writes.finished.append((request_id, answer))
    for key, known in tuple(state.claims.items()):
        if known.request_id == request_id and answer is None:
            del state.claims[key]
        elif known.request_id == request_id:
            state.claims[key] = known._replace(answer=answer)


def admit(state: AdmissionState, writes: Writes, command: Admit, context: BatchContext) -> Answer:
    """Let a call in, or say why not."""
    answer = decide_admission(state, command)
    if isinstance(answer, Refused):
        writes.refusals.append(_refusal_of(command, answer))
    if not isinstance(answer, Admitted):
        return answer
    principal = command.principal
    account = state.accounts[principal.customer_id]
    counters = state.counters[principal.customer_owner]
    writes.has_changed = True
    expires_us = state.now_us + command.lifetime_us
    context.memory.note_expiry(expires_us)
    writes.opened.append(
        OpenHold(
            request_id=command.request_id,
            account_id=account.id,
            amount_nanousd=command.amount_nanousd,
            worker_id=context.lease.id,
            owners=write_owners(principal, command.endpoint_class),
            input_tokens=command.input_tokens,
            output_tokens=command.output_tokens,
            day=counters.day,
            month=counters.month,
            progress_tokens=0,
            draft=command.draft,
            created_us=state.now_us,
            expires_us=expires_us,
        )
    )
    # A repeat in the same batch finds it in flight.
    _open_claim(state, writes, command, None)
    _note_use(state, writes, command, context)
    return answer


def reuse(state: AdmissionState, writes: Writes, command: Reuse, context: BatchContext) -> Answer:
    """Let a call have an answer that is known, and book it, or say why not."""
    answer, movements = decide_reuse(state, command)
    if isinstance(answer, Refused):
        writes.refusals.append(_refusal_of(command.admit, answer))
    if not isinstance(answer, Reused):
        return answer
    writes.has_changed = True
    writes.movements += movements
    usage = command.usage._replace(started_us=state.now_us)
    writes.usage.append(BookedUsage(usage=usage, charged_nanousd=answer.charged_nanousd))
    _open_claim(state, writes, command.admit, command.answer)
    if command.answer is not None:
        writes.finished.append((usage.request_id, command.answer))
    _note_use(state, writes, command.admit, context)
    return answer


def _open_claim(state: AdmissionState, writes: Writes, command: Admit, answer: StoredAnswer | None) -> None:
    if command.claim is None:
        return
    new = NewClaim(command.principal.customer_id, command.claim, command.request_id)
    writes.claims.append(new)
    state.claims[new.customer_id, new.claim.key] = KnownClaim(
        new.request_id, new.claim.fingerprint, state.now_us + KEEP_US, answer
    )


def _note_use(state: AdmissionState, writes: Writes, command: Admit, context: BatchContext) -> None:
    key_id = command.principal.key_id
    if state.now_us - context.last_used_us.get(key_id, 0) >= _LAST_USED_EVERY_US:
        writes.used_keys[key_id] = command.client_address
    if command.pin:
        writes.pins.setdefault(command.pin, set()).add(key_id)


def _refusal_of(command: Admit, answer: Refused) -> NewRefusal:
    return NewRefusal(
        request_id=command.request_id,
        customer_id=command.principal.customer_id,
        api_key_id=command.principal.key_id,
        operation=command.operation,
        model=command.model,
        error=answer.error,
        checked=answer.checked,
    )

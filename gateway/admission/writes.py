"""What a batch writes: collected while it decides, then stored in bulk, in one order."""

from dataclasses import dataclass, field

from billing import journal
from billing.journal import BookedUsage, NewTransfer, OpenHold
from billing.models import TransferKind
from common.sql import Sql
from gateway.admission.context import BatchContext
from gateway.admission.decisions import AdmissionState, Movement
from gateway.attempt_rows import NewAttempt, write_attempts
from gateway.breaker_rows import BreakerCommand
from gateway.guard_rows import CallFindings, write_findings
from gateway.idempotency import NewClaim, StoredAnswer, finish_claim, open_claims, release_claims
from gateway.refusals import NewRefusal, write_refusals
from keys.limit_rows import write_counters
from keys.pinning import pin_new_keys


@dataclass(slots=True, kw_only=True)
class Writes:
    """Rows and changes, none of them stored yet."""

    movements: list[Movement] = field(default_factory=list)
    usage: list[BookedUsage] = field(default_factory=list)
    opened: list[OpenHold] = field(default_factory=list)
    progress: list[tuple[str, int]] = field(default_factory=list)
    used_keys: dict[int, str | None] = field(default_factory=dict)
    # By the date that their keys are pinned to.
    pins: dict[str, set[int]] = field(default_factory=dict)
    claims: list[NewClaim] = field(default_factory=list)
    finished: list[tuple[str, StoredAnswer]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    refusals: list[NewRefusal] = field(default_factory=list)
    attempts: list[NewAttempt] = field(default_factory=list)
    findings: list[CallFindings] = field(default_factory=list)
    breakers: list[tuple[int, BreakerCommand]] = field(default_factory=list)
    # Balances or counters have moved.
    has_changed: bool = False


def write_batch(sql: Sql, state: AdmissionState, writes: Writes, context: BatchContext) -> None:
    """Store all of it. Breakers are told apart, since claims of trials have answers."""
    paid_holds = [hold for hold in writes.opened if hold.amount_nanousd > 0]
    ids = context.memory.allocate_transfer_ids(sql, len(paid_holds) + len(writes.movements))
    transfers = [
        NewTransfer(
            id=ids[index],
            kind=TransferKind.PENDING,
            account_id=hold.account_id,
            amount_nanousd=hold.amount_nanousd,
            request_id=hold.request_id,
        )
        for index, hold in enumerate(paid_holds)
    ]
    pending_ids = {t.request_id: t.id for t in transfers}
    transfers += [
        NewTransfer(
            id=transfer_id,
            kind=m.kind,
            account_id=m.account_id,
            amount_nanousd=m.amount_nanousd,
            request_id=m.request_id,
            pending_id=m.pending_id,
            reason=m.reason,
        )
        for transfer_id, m in zip(ids[len(paid_holds) :], writes.movements, strict=True)
    ]
    journal.append_transfers(sql, transfers, revenue_id=context.revenue_account_id, now_us=state.now_us)
    journal.open_holds(sql, writes.opened, pending_ids)
    journal.append_usage(sql, writes.usage, now_us=state.now_us)
    journal.write_progress(sql, writes.progress)
    release_claims(sql, writes.released)
    open_claims(sql, writes.claims, now_us=state.now_us)
    # Last: a reused answer finishes the claim that it opens.
    for request_id, answer in writes.finished:
        finish_claim(sql, request_id, answer)
    if writes.has_changed:
        journal.write_accounts(sql, state.accounts.values())
        write_counters(sql, state.counters.values())
    for key_id in sorted(writes.used_keys):
        sql.run(
            "UPDATE keys_apikey SET last_used_at = %s, last_used_address = %s WHERE id = %s",
            (sql.moment(state.now_us), writes.used_keys[key_id], key_id),
        )
        context.last_used_us[key_id] = state.now_us
    for api_version, key_ids in writes.pins.items():
        pin_new_keys(sql, sorted(key_ids), api_version)
        context.memory.forget_head()
    write_refusals(sql, writes.refusals, now_us=state.now_us)
    write_attempts(sql, writes.attempts, now_us=state.now_us)
    write_findings(sql, writes.findings, now_us=state.now_us)

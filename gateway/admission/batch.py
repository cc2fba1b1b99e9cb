"""One transaction of many decisions: lock, expire what is due, settle, admit, write in bulk.

Locks are taken in one order everywhere (accounts by id, counters by name), and no hold, balance or counter of a
customer is touched without the lock on its account. Settlements come before admissions: they free money and places.
Running a batch again after a failure is safe: what was settled before is recognised by its usage record.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from billing import journal
from billing.grants import settle_grants
from billing.journal import BookedUsage, NewTransfer, OpenHold
from billing.models import Account, TransferKind
from common.clock import Clock
from common.sql import DurableTransaction, Row, Sql
from gateway.admission.commands import (
    Admit,
    Admitted,
    Answer,
    ClaimTrial,
    Command,
    EndTrial,
    FindPrincipal,
    FoundPrincipal,
    Note,
    NoteBreaker,
    Noted,
    NoteFindings,
    NoteProgress,
    NoteRefusal,
    Refused,
    Reuse,
    Reused,
    Settle,
    Settled,
)
from gateway.admission.decisions import (
    AdmissionState,
    Movement,
    decide_admission,
    decide_late_settlement,
    decide_reuse,
    decide_settlement,
)
from gateway.admission.expiry import findings_of_expired, usage_of_expired, usage_of_unreadable
from gateway.admission.memory import Head, Memory
from gateway.admission.worker import WorkerLease, find_dead_workers, remove_workers_without_holds
from gateway.attempt_rows import NewAttempt, prune_attempts, write_attempts
from gateway.breaker_rows import BreakerCommand, read_health, write_breakers
from gateway.breakers import HealthBook
from gateway.catalogue import EMPTY_CATALOGUE, Catalogue, read_catalogue
from gateway.guard_rows import CallFindings, prune_findings, without_held, write_findings
from gateway.idempotency import (
    KEEP_US,
    ClaimKey,
    KnownClaim,
    NewClaim,
    StoredAnswer,
    finish_claim,
    open_claims,
    prune_claims,
    read_claims,
    release_claims,
)
from gateway.refusals import NewRefusal, prune_refusals, write_refusals
from keys.limit_rows import counter_names, counters_of_hold, write_counters, write_owners
from keys.lines import read_principal_of_line
from keys.pinning import pin_new_keys
from keys.principals import read_principals_by_hash, read_rows_by_key_id

logger = logging.getLogger(__name__)

# Expired holds resolved in one batch: a crash with thousands in flight is worked off over several.
_EXPIRY_LIMIT = 500
_MOST_VERIFIED_ROWS = 10_000
_LAST_USED_EVERY_US = 60_000_000
_ABANDONED_FOR_US = 15_000_000
_PRUNE_EVERY_US = 60_000_000


@dataclass(slots=True, kw_only=True)
class BatchContext:
    """What lives on from batch to batch in one clerk."""

    clock: Clock
    lease: WorkerLease
    memory: Memory = field(default_factory=Memory)
    catalogue: Catalogue = EMPTY_CATALOGUE
    # How the next one is read: whole, or as much of it as batches need.
    read_catalogue: Callable[[Sql, Catalogue], Catalogue] = read_catalogue
    health: HealthBook = HealthBook()  # noqa: RUF009 - frozen
    # Rows of keys as read in this generation of keys, customers and plans: no need to read them again.
    principals_generation: int = -1
    verified_rows: dict[int, Row] = field(default_factory=dict)
    revenue_account_id: int = 0
    # Admissions that nobody will settle, if they are in the database at all (a commit whose outcome is unknown, a
    # caller that left), and until when to look for their holds: the server may still be at that commit.
    abandoned: dict[str, int] = field(default_factory=dict)
    last_used_us: dict[int, int] = field(default_factory=dict)
    # When to look for rows that are kept for a time only.
    prune_us: int = 0

    def abandon(self, request_id: str) -> None:
        """Let a hold of `request_id` expire at once; safe to call from any thread."""
        self.abandoned[request_id] = self.clock.now_us() + _ABANDONED_FOR_US


@dataclass(slots=True, kw_only=True)
class _Writes:
    """What a batch will write, collected while it decides."""

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


class _Found(NamedTuple):
    """What is due although nobody has asked for it."""

    dead_workers: list[int]
    due: list[OpenHold]
    # Customers whose grants have expired.
    idle_customer_ids: list[int]


def run_batch(connection: BaseDatabaseWrapper, commands: Sequence[Command], context: BatchContext) -> list[Answer]:
    """Decide all `commands` in one transaction and return their answers in order.

    Raises django.db.DatabaseError with nothing written; then `context` has forgotten what it could not store.
    """
    previous = context.catalogue, context.health, context.revenue_account_id
    is_committing = False
    try:
        with connection.wrap_database_errors, DurableTransaction(connection):
            answers = _run(Sql(connection), commands, context)
            is_committing = True
    except BaseException:
        context.catalogue, context.health, context.revenue_account_id = previous
        context.principals_generation = -1
        context.memory.forget()
        context.lease.forget_renewal()
        if is_committing:
            # The commit may have got through although its answer did not.
            for command in commands:
                if isinstance(command, Admit):
                    context.abandon(command.request_id)
        raise
    return answers


def _run(sql: Sql, commands: Sequence[Command], context: BatchContext) -> list[Answer]:
    now_us = context.clock.now_us()
    context.memory.begin(sql)
    context.lease.renew_if_due(sql, now_us)
    found = _look_around(sql, context, now_us)
    state = _lock_state(sql, commands, found, context, now_us)
    writes = _Writes()
    for hold in found.due:
        _expire(state, writes, hold, context)
    # Settlements first: they free money and places for the admissions of the same batch.
    answers: dict[int, Answer] = {}
    for position, command in enumerate(commands):
        if isinstance(command, Settle):
            answers[position] = _settle(sql, state, writes, command)
        elif isinstance(command, NoteBreaker | ClaimTrial | EndTrial):
            writes.breakers.append((position, command))
            answers[position] = Noted()
        elif isinstance(command, Note):
            answers[position] = _take_note(writes, command)
    # After them, so that what a settlement frees of an expired grant is gone before anybody can spend it.
    _settle_due_grants(sql, state, writes, context)
    for position, command in enumerate(commands):
        if isinstance(command, Admit | Reuse):
            take_on = _admit if isinstance(command, Admit) else _reuse
            answers[position] = take_on(state, writes, command, context)  # type: ignore[arg-type]
    _find_principals(sql, commands, answers, now_us)
    _write(sql, state, writes, context)
    answers |= write_breakers(sql, writes.breakers, now_us=now_us)
    if found.dead_workers:
        remove_workers_without_holds(sql, found.dead_workers)
    context.memory.end(sql)
    return [answers[position] for position in range(len(commands))]


def _take_note(writes: _Writes, note: Note) -> Noted:
    match note:
        case NoteProgress():
            writes.progress.append((note.request_id, note.output_tokens))
        case NoteRefusal():
            writes.refusals.append(note.refusal)
        case NoteFindings():
            writes.findings.append(note.findings)
    return Noted()


def _look_around(sql: Sql, context: BatchContext, now_us: int) -> _Found:
    """Refresh what has moved since the last batch; return what is due although nobody has asked for it."""
    head = context.memory.read_head(sql, now_us)
    _refresh(sql, context, head)
    dead_workers: list[int] = []
    due: list[OpenHold] = []
    if head.first_lease_us <= now_us:
        dead_workers = find_dead_workers(sql, now_us=now_us, own_id=context.lease.id)
    if dead_workers or head.first_expiry_us <= now_us:
        due = journal.find_due_holds(sql, now_us=now_us, dead_worker_ids=dead_workers, limit=_EXPIRY_LIMIT)
    idle_customer_ids: list[int] = []
    if context.prune_us <= now_us:
        # Whoever calls is looked at with every batch; this is for wallets that nobody draws from.
        idle_customer_ids = journal.find_customers_with_due_grants(sql, now_us=now_us, limit=_EXPIRY_LIMIT)
        context.prune_us = now_us + _PRUNE_EVERY_US
        prune_claims(sql, now_us=now_us)
        prune_refusals(sql, now_us=now_us)
        prune_attempts(sql, now_us=now_us)
        prune_findings(sql, now_us=now_us)
    if context.abandoned:
        # list() of a dict is one step: the event loop may be adding to it.
        looked_for = list(context.abandoned.items())[:_EXPIRY_LIMIT]
        due += journal.read_holds(sql, [request_id for request_id, _ in looked_for]).values()
        for request_id, until_us in looked_for:
            if until_us <= now_us:
                del context.abandoned[request_id]
    return _Found(dead_workers, due, idle_customer_ids)


def _settle_due_grants(sql: Sql, state: AdmissionState, writes: _Writes, context: BatchContext) -> None:
    """Bring grants that begin or expire into the batch's wallets; for all but a few there is nothing to do."""
    for account in state.accounts.values():
        if account.grants_due_us is None or account.grants_due_us > state.now_us:
            continue
        row = Account.objects.using(sql.alias).get(pk=account.id)
        row.posted_nanousd = account.posted_nanousd
        settle_grants(row, state.now_us, using=sql.alias)
        account.posted_nanousd, account.grants_due_us = row.posted_nanousd, row.grants_due_us
        writes.has_changed = True
        context.memory.forget_transfer_ids()


def _refresh(sql: Sql, context: BatchContext, head: Head) -> None:
    """Read again what has moved since the last batch."""
    if head.catalogue_generation != context.catalogue.generation:
        context.catalogue = context.read_catalogue(sql, context.catalogue)
    if head.health_generation != context.health.generation:
        context.health = read_health(sql, head.health_generation)
    if head.principals_generation != context.principals_generation:
        context.principals_generation = head.principals_generation
        context.verified_rows.clear()
    if not context.revenue_account_id:
        context.revenue_account_id = journal.find_revenue_account(sql)


def _find_principals(sql: Sql, commands: Sequence[Command], answers: dict[int, Answer], now_us: int) -> None:
    asked = {position: command for position, command in enumerate(commands) if isinstance(command, FindPrincipal)}
    if not asked:
        return
    hashes = {h for command in asked.values() for h in command.hashes}
    principals = read_principals_by_hash(sql, hashes) if hashes else {}
    for position, command in asked.items():
        if command.line_id is not None:
            found = read_principal_of_line(sql, command.line_id, now_us=now_us)
        else:
            found = next((principals[h] for h in command.hashes if h in principals), None)
        answers[position] = FoundPrincipal(principal=found)


def _lock_state(
    sql: Sql,
    commands: Sequence[Command],
    work: _Found,
    context: BatchContext,
    now_us: int,
) -> AdmissionState:
    """Take every lock that the batch needs, in the one order, and read what it decides on.

    Holds are taken after the locks: one that another process resolved meanwhile is gone by then.
    """
    customer_ids = set(work.idle_customer_ids)
    owners: set[str] = set()
    hold_ids = [hold.request_id for hold in work.due]
    key_ids: set[int] = set()
    claims: set[ClaimKey] = set()
    for command in commands:
        asked = command.admit if isinstance(command, Reuse) else command
        if isinstance(asked, Admit | Settle):
            customer_ids.add(asked.principal.customer_id)
            owners.update(counter_names(asked.principal, asked.endpoint_class))
            if isinstance(asked, Admit):
                key_ids.add(asked.principal.key_id)
                if asked.claim is not None:
                    claims.add((asked.principal.customer_id, asked.claim.key))
            else:
                hold_ids.append(asked.usage.request_id)
    for hold in work.due:
        names, rated_names = counters_of_hold(hold.owners)
        owners.update(names, rated_names)
        customer_ids.add(int(names[0].removeprefix("customer:")))
    return AdmissionState(
        now_us=now_us,
        catalogue_generation=context.catalogue.generation,
        accounts=context.memory.lock_accounts(sql, customer_ids),
        counters=context.memory.lock_counters(sql, owners, now_us),
        key_rows=_verify_rows(sql, key_ids, context),
        holds=journal.take_holds(sql, hold_ids),
        claims=read_claims(sql, claims),
    )


def _verify_rows(sql: Sql, key_ids: set[int], context: BatchContext) -> dict[int, Row]:
    """Return the rows of keys as they are in this transaction, reading those that this generation has not seen."""
    unread = key_ids - context.verified_rows.keys()
    if unread:
        if len(context.verified_rows) > _MOST_VERIFIED_ROWS:
            context.verified_rows.clear()
            unread = key_ids
        context.verified_rows.update(read_rows_by_key_id(sql, unread))
    return context.verified_rows


def _expire(state: AdmissionState, writes: _Writes, hold: OpenHold, context: BatchContext) -> None:
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


def _settle(sql: Sql, state: AdmissionState, writes: _Writes, command: Settle) -> Settled:
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


def _end_claim(state: AdmissionState, writes: _Writes, request_id: str, answer: StoredAnswer | None) -> None:
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


def _admit(state: AdmissionState, writes: _Writes, command: Admit, context: BatchContext) -> Answer:
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


def _reuse(state: AdmissionState, writes: _Writes, command: Reuse, context: BatchContext) -> Answer:
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


def _open_claim(state: AdmissionState, writes: _Writes, command: Admit, answer: StoredAnswer | None) -> None:
    if command.claim is None:
        return
    new = NewClaim(command.principal.customer_id, command.claim, command.request_id)
    writes.claims.append(new)
    state.claims[new.customer_id, new.claim.key] = KnownClaim(
        new.request_id, new.claim.fingerprint, state.now_us + KEEP_US, answer
    )


def _note_use(state: AdmissionState, writes: _Writes, command: Admit, context: BatchContext) -> None:
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


def _write(sql: Sql, state: AdmissionState, writes: _Writes, context: BatchContext) -> None:
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

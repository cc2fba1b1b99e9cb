"""One transaction of many decisions: lock, expire what is due, settle, admit, write in bulk.

Locks are taken in one order everywhere (accounts by id, counters by name), and no hold, balance or counter of a
customer is touched without the lock on its account. Settlements come before admissions: they free money and places.
Running a batch again after a failure is safe: what was settled before is recognised by its usage record.
"""

from collections.abc import Sequence
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from billing import journal
from billing.grants import settle_grants
from billing.journal import OpenHold
from billing.models import Account
from common.sql import DurableTransaction, Row, Sql
from gateway.admission.carrying import admit, expire, reuse, settle
from gateway.admission.commands import (
    Admit,
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
    Reuse,
    Settle,
)
from gateway.admission.context import BatchContext
from gateway.admission.decisions import AdmissionState
from gateway.admission.memory import Head
from gateway.admission.worker import find_dead_workers, remove_workers_without_holds
from gateway.admission.writes import Writes, write_batch
from gateway.attempt_rows import prune_attempts
from gateway.breaker_rows import read_health, write_breakers
from gateway.guard_rows import prune_findings
from gateway.idempotency import ClaimKey, prune_claims, read_claims
from gateway.refusals import prune_refusals
from keys.limit_rows import counter_names, counters_of_hold
from keys.lines import read_principal_of_line
from keys.principals import read_principals_by_hash, read_rows_by_key_id

# Expired holds resolved in one batch: a crash with thousands in flight is worked off over several.
_EXPIRY_LIMIT = 500
_MOST_VERIFIED_ROWS = 10_000
_PRUNE_EVERY_US = 60_000_000


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
    writes = Writes()
    for hold in found.due:
        expire(state, writes, hold, context)
    # Settlements first: they free money and places for the admissions of the same batch.
    answers: dict[int, Answer] = {}
    for position, command in enumerate(commands):
        if isinstance(command, Settle):
            answers[position] = settle(sql, state, writes, command)
        elif isinstance(command, NoteBreaker | ClaimTrial | EndTrial):
            writes.breakers.append((position, command))
            answers[position] = Noted()
        elif isinstance(command, Note):
            answers[position] = _take_note(writes, command)
    # After them, so that what a settlement frees of an expired grant is gone before anybody can spend it.
    _settle_due_grants(sql, state, writes, context)
    for position, command in enumerate(commands):
        if isinstance(command, Admit | Reuse):
            take_on = admit if isinstance(command, Admit) else reuse
            answers[position] = take_on(state, writes, command, context)  # type: ignore[arg-type]
    _find_principals(sql, commands, answers, now_us)
    write_batch(sql, state, writes, context)
    answers |= write_breakers(sql, writes.breakers, now_us=now_us)
    if found.dead_workers:
        remove_workers_without_holds(sql, found.dead_workers)
    context.memory.end(sql)
    return [answers[position] for position in range(len(commands))]


def _take_note(writes: Writes, note: Note) -> Noted:
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


def _settle_due_grants(sql: Sql, state: AdmissionState, writes: Writes, context: BatchContext) -> None:
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

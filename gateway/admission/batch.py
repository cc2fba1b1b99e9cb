"""One transaction of many decisions: lock, expire what is due, settle, admit, write in bulk.

Locks are taken in one order everywhere (accounts by id, counters by name), and no hold, balance or counter of a
customer is touched without the lock on its account. Settlements come before admissions: they free money and places.
Running a batch again after a failure is safe: what was settled before is recognised by its usage record.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from billing import journal
from billing.journal import BookedUsage, NewTransfer, OpenHold
from billing.models import TransferKind
from common.clock import Clock
from common.sql import Row, Sql
from gateway.admission.commands import (
    Admit,
    Admitted,
    Answer,
    Command,
    FindPrincipal,
    FoundPrincipal,
    Noted,
    NoteProgress,
    Settle,
    Settled,
)
from gateway.admission.decisions import (
    AdmissionState,
    Movement,
    decide_admission,
    decide_late_settlement,
    decide_settlement,
)
from gateway.admission.expiry import usage_of_expired, usage_of_unreadable
from gateway.admission.worker import WorkerLease, find_dead_workers, remove_workers_without_holds
from gateway.catalogue import EMPTY_CATALOGUE, Catalogue, read_catalogue
from keys.limit_rows import lock_counters, write_counters
from keys.principals import read_principals_by_hash, read_rows_by_key_id

logger = logging.getLogger(__name__)

# Expired holds resolved in one batch: a crash with thousands in flight is worked off over several.
_EXPIRY_LIMIT = 500
_MOST_VERIFIED_ROWS = 10_000
_LAST_USED_EVERY_US = 60_000_000
_ABANDONED_FOR_US = 15_000_000

# One query at the head of a batch: have catalogue or keys moved, is any hold or process due?
_HEAD = (
    "SELECT (SELECT value FROM common_generation WHERE name = 'catalogue'),"
    " (SELECT value FROM common_generation WHERE name = 'principals'),"
    " (SELECT min(expires_us) FROM billing_hold), (SELECT min(lease_until_us) FROM gateway_worker)"
)


@dataclass(slots=True, kw_only=True)
class BatchContext:
    """What lives on from batch to batch in one clerk."""

    clock: Clock
    lease: WorkerLease
    catalogue: Catalogue = EMPTY_CATALOGUE
    # Rows of keys as read in this generation of keys, customers and plans: no need to read them again.
    principals_generation: int = -1
    verified_rows: dict[int, Row] = field(default_factory=dict)
    revenue_account_id: int = 0
    # Admissions that nobody will settle, if they are in the database at all (a commit whose outcome is unknown, a
    # caller that left), and until when to look for their holds: the server may still be at that commit.
    abandoned: dict[str, int] = field(default_factory=dict)
    last_used_us: dict[int, int] = field(default_factory=dict)

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
    # Balances or counters have moved.
    has_changed: bool = False


def run_batch(connection: BaseDatabaseWrapper, commands: Sequence[Command], context: BatchContext) -> list[Answer]:
    """Decide all `commands` in one transaction and return their answers in order.

    Raises django.db.DatabaseError with nothing written; then `context` has forgotten what it could not store.
    """
    previous = context.catalogue, context.revenue_account_id
    is_committing = False
    try:
        with connection.wrap_database_errors, transaction.atomic(using=connection.alias, durable=True):
            answers = _run(Sql(connection), commands, context)
            is_committing = True
    except BaseException:
        context.catalogue, context.revenue_account_id = previous
        context.principals_generation = -1
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
    context.lease.renew_if_due(sql, now_us)
    dead_workers, due = _look_around(sql, context, now_us)
    state = _lock_state(sql, commands, due, context, now_us)
    writes = _Writes()
    for hold in due:
        _expire(state, writes, hold, context)
    # Settlements first: they free money and places for the admissions of the same batch.
    answers: dict[int, Answer] = {}
    for position, command in enumerate(commands):
        if isinstance(command, Settle):
            answers[position] = _settle(sql, state, writes, command)
        elif isinstance(command, NoteProgress):
            writes.progress.append((command.request_id, command.output_tokens))
            answers[position] = Noted()
    for position, command in enumerate(commands):
        if isinstance(command, Admit):
            answers[position] = _admit(state, writes, command, context)
    _find_principals(sql, commands, answers)
    _write(sql, state, writes, context)
    if dead_workers:
        remove_workers_without_holds(sql, dead_workers)
    return [answers[position] for position in range(len(commands))]


def _look_around(sql: Sql, context: BatchContext, now_us: int) -> tuple[list[int], list[OpenHold]]:
    """Refresh what has moved since the last batch; return the dead processes and the holds that are due."""
    catalogue, principals, first_expiry_us, first_lease_us = sql.rows(_HEAD)[0]
    if catalogue != context.catalogue.generation:
        context.catalogue = read_catalogue(sql)
    if principals != context.principals_generation:
        context.principals_generation = principals
        context.verified_rows.clear()
    if not context.revenue_account_id:
        context.revenue_account_id = journal.find_revenue_account(sql)
    dead_workers: list[int] = []
    due: list[OpenHold] = []
    if first_lease_us is not None and first_lease_us <= now_us:
        dead_workers = find_dead_workers(sql, now_us=now_us, own_id=context.lease.id)
    if dead_workers or (first_expiry_us is not None and first_expiry_us <= now_us):
        due = journal.find_due_holds(sql, now_us=now_us, dead_worker_ids=dead_workers, limit=_EXPIRY_LIMIT)
    if context.abandoned:
        # list() of a dict is one step: the event loop may be adding to it.
        looked_for = list(context.abandoned.items())[:_EXPIRY_LIMIT]
        due += journal.read_holds(sql, [request_id for request_id, _ in looked_for]).values()
        for request_id, until_us in looked_for:
            if until_us <= now_us:
                del context.abandoned[request_id]
    return dead_workers, due


def _find_principals(sql: Sql, commands: Sequence[Command], answers: dict[int, Answer]) -> None:
    wanted = {h for command in commands if isinstance(command, FindPrincipal) for h in command.hashes}
    if not wanted:
        return
    principals = read_principals_by_hash(sql, wanted)
    for position, command in enumerate(commands):
        if isinstance(command, FindPrincipal):
            found = next((principals[h] for h in command.hashes if h in principals), None)
            answers[position] = FoundPrincipal(principal=found)


def _lock_state(
    sql: Sql, commands: Sequence[Command], due: list[OpenHold], context: BatchContext, now_us: int
) -> AdmissionState:
    """Take every lock that the batch needs, in the one order, and read what it decides on.

    Holds are taken after the locks: one that another process resolved meanwhile is gone by then.
    """
    customer_ids: set[int] = set()
    owners: set[str] = set()
    hold_ids = [hold.request_id for hold in due]
    key_ids: set[int] = set()
    for command in commands:
        if isinstance(command, Admit | Settle):
            customer_ids.add(command.principal.customer_id)
            owners.add(command.principal.customer_owner)
            owners.add(command.principal.key_owner)
            if isinstance(command, Admit):
                key_ids.add(command.principal.key_id)
            else:
                hold_ids.append(command.usage.request_id)
    for hold in due:
        names = hold.owners.split(",")
        owners.update(names)
        customer_ids.update(int(name.partition(":")[2]) for name in names if name.startswith("customer:"))
    return AdmissionState(
        now_us=now_us,
        catalogue_generation=context.catalogue.generation,
        accounts=journal.lock_accounts(sql, customer_ids) if customer_ids else {},
        counters=lock_counters(sql, owners, now_us) if owners else {},
        key_rows=_verify_rows(sql, key_ids, context),
        holds=journal.take_holds(sql, hold_ids),
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
        is_readable = True
    except (KeyError, TypeError, ValueError):
        # One draft that cannot be read (written by another version, say) must not fail every batch from now on.
        logger.critical("the draft of an expired hold cannot be read, it is released without a record: %s", hold)
        usage, is_readable = usage_of_unreadable(hold), False
    settled, movements = decide_settlement(state, hold, usage, is_expiry=True)
    writes.movements += movements
    writes.has_changed = True
    if is_readable:
        writes.usage.append(BookedUsage(usage=usage, charged_nanousd=settled.charged_nanousd))


def _settle(sql: Sql, state: AdmissionState, writes: _Writes, command: Settle) -> Settled:
    usage = command.usage
    hold = state.holds.pop(usage.request_id, None)
    if hold is not None:
        settled, movements = decide_settlement(state, hold, usage, is_expiry=False)
        booked = BookedUsage(usage=usage, charged_nanousd=settled.charged_nanousd)
    else:
        before = journal.read_earlier_usage(sql, usage.request_id, writes.usage)
        if before.was_settled:
            # A repeat of a settlement whose commit got through although its answer did not.
            available = state.accounts[usage.customer_id].available_nanousd
            return Settled(charged_nanousd=before.charged_nanousd, available_nanousd=available)
        settled, movements = decide_late_settlement(state, usage, command.principal, before)
        booked = BookedUsage(usage=usage, charged_nanousd=settled.charged_nanousd, sequence=1, flag="late_settlement")
    writes.movements += movements
    writes.usage.append(booked)
    writes.has_changed = True
    return settled


def _admit(state: AdmissionState, writes: _Writes, command: Admit, context: BatchContext) -> Answer:
    answer = decide_admission(state, command)
    if not isinstance(answer, Admitted):
        return answer
    principal = command.principal
    account = state.accounts[principal.customer_id]
    counters = state.counters[principal.customer_owner]
    writes.has_changed = True
    writes.opened.append(
        OpenHold(
            request_id=command.request_id,
            account_id=account.id,
            amount_nanousd=command.amount_nanousd,
            worker_id=context.lease.id,
            owners=f"{principal.customer_owner},{principal.key_owner}",
            input_tokens=command.input_tokens,
            output_tokens=command.output_tokens,
            day=counters.day,
            month=counters.month,
            progress_tokens=0,
            draft=command.draft,
            created_us=state.now_us,
            expires_us=state.now_us + command.lifetime_us,
        )
    )
    if state.now_us - context.last_used_us.get(principal.key_id, 0) >= _LAST_USED_EVERY_US:
        writes.used_keys[principal.key_id] = command.client_address
    return answer


def _write(sql: Sql, state: AdmissionState, writes: _Writes, context: BatchContext) -> None:
    paid_holds = [hold for hold in writes.opened if hold.amount_nanousd > 0]
    ids = sql.allocate_ids("billing_transfer", len(paid_holds) + len(writes.movements))
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
    if writes.has_changed:
        journal.write_accounts(sql, state.accounts.values())
        write_counters(sql, state.counters.values())
    for key_id in sorted(writes.used_keys):
        sql.run(
            "UPDATE keys_apikey SET last_used_at = %s, last_used_address = %s WHERE id = %s",
            (sql.moment(state.now_us), writes.used_keys[key_id], key_id),
        )
        context.last_used_us[key_id] = state.now_us

"""Running admission without a thread, and recomputing from the rows what its counters say."""

from dataclasses import dataclass

from django.db import connection
from django.db.models import Q, Sum

from billing.accounts import get_balance
from billing.models import Account, Hold, Transfer, TransferKind, UsageRecord
from common.clock import SYSTEM_CLOCK, Clock
from gateway.admission.batch import run_batch
from gateway.admission.commands import Answer, Command
from gateway.admission.context import BatchContext
from gateway.admission.worker import WorkerLease
from keys.limit_rows import counters_of_hold
from keys.models import LimitState

RESOLUTIONS = (TransferKind.POST, TransferKind.VOID, TransferKind.EXPIRE)


def make_context(clock: Clock = SYSTEM_CLOCK, *, lease_seconds: float = 15) -> BatchContext:
    """Return what a clerk on `clock` keeps from batch to batch: a process of its own, as far as the rows can tell."""
    return BatchContext(clock=clock, lease=WorkerLease(lease_us=round(lease_seconds * 1_000_000)))


def run(*commands: Command, context: BatchContext | None = None) -> list[Answer]:
    """Decide `commands` in one batch and return their answers."""
    return run_batch(connection, commands, context or make_context())


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the immutable rows of a customer add up to."""

    posted_nanousd: int
    held_nanousd: int
    open_request_ids: frozenset[str]


def add_up(customer_id: int) -> Books:
    """Return the customer's balance recomputed from its transfers alone."""
    account = Account.objects.get(customer_id=customer_id)
    transfers = Transfer.objects.filter(Q(debit_account=account) | Q(credit_account=account))
    moving = transfers.filter(kind__in=(TransferKind.DIRECT, TransferKind.POST))
    received = moving.filter(credit_account=account).aggregate(total=Sum("amount_nanousd"))["total"] or 0
    spent = moving.filter(debit_account=account).aggregate(total=Sum("amount_nanousd"))["total"] or 0
    resolved = transfers.filter(kind__in=RESOLUTIONS).values("pending_id")
    unresolved = transfers.filter(kind=TransferKind.PENDING).exclude(pk__in=resolved)
    return Books(
        posted_nanousd=received - spent,
        held_nanousd=unresolved.aggregate(total=Sum("amount_nanousd"))["total"] or 0,
        open_request_ids=frozenset(str(request_id) for request_id in unresolved.values_list("request_id", flat=True)),
    )


def assert_books_agree(customer_id: int) -> None:
    """Check that balance, holds, usage and limit counters are what the customer's rows add up to."""
    books = add_up(customer_id)
    balance = get_balance(customer_id)
    assert (balance.posted_nanousd, balance.held_nanousd) == (books.posted_nanousd, books.held_nanousd)
    holds = list(Hold.objects.filter(account__customer_id=customer_id))
    assert {hold.request_id for hold in holds if hold.amount_nanousd} == books.open_request_ids
    charged = UsageRecord.objects.filter(customer_id=customer_id).aggregate(total=Sum("charged_nanousd"))["total"]
    account = Account.objects.get(customer_id=customer_id)
    moved = Transfer.objects.filter(debit_account=account, kind__in=(TransferKind.DIRECT, TransferKind.POST))
    assert (charged or 0) == (moved.aggregate(total=Sum("amount_nanousd"))["total"] or 0)
    owners = {owner for hold in holds for owner in counters_of_hold(hold.owners)[0]} | {f"customer:{customer_id}"}
    for state in LimitState.objects.filter(owner__in=owners):
        own = [hold for hold in holds if state.owner in counters_of_hold(hold.owners)[0]]
        assert state.in_flight == len(own)
        assert state.day_held_nanousd == sum(h.amount_nanousd for h in own if h.day == state.day)
        assert state.total_held_nanousd == sum(h.amount_nanousd for h in own)
        assert state.month_held_nanousd == sum(h.amount_nanousd for h in own if h.month == state.month)

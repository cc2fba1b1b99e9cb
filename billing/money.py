"""Money that people and commands move: top-ups, grants, refunds, credit notes, adjustments, credit limits, invoices.

Each is one `Movement` with reason and author, and one transfer. From `settings.MONEY_APPROVAL_NANOUSD` on it waits
for a second person (`approve_movement`); invoices and their payments have their own way and do not wait. Everything
happens under the lock of the customer's wallet, after a look at its grants, so that `billing.grants` holds.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction

from billing.accounts import open_customer_account, open_platform_account, open_receivable_account, sum_transfers
from billing.errors import AmountInvalid, ApprovalRefused, MovementDecided, ReferenceUsed
from billing.grants import first_expiry, settle_grants
from billing.models import Account, AccountKind, Transfer, TransferKind
from billing.money_models import Grant, Movement, MovementKind, MovementStatus
from common.clock import to_us
from common.ids import make_id
from common.money import MAX_NANOUSD, format_usd
from keys.audit import Actor, author_actor, record_event
from keys.models import Customer

MOST_NANOUSD = MAX_NANOUSD // 1_000
# The other side of a wallet's movement, and whether the money comes in.
_COUNTERPARTS = {
    MovementKind.TOP_UP: (AccountKind.CASH, True),
    MovementKind.GRANT: (AccountKind.CREDIT_SOURCE, True),
    MovementKind.REFUND: (AccountKind.CASH, False),
    MovementKind.CREDIT_NOTE: (AccountKind.REVENUE, True),
    MovementKind.ADJUSTMENT_UP: (AccountKind.CREDIT_SOURCE, True),
    MovementKind.ADJUSTMENT_DOWN: (AccountKind.CREDIT_SOURCE, False),
    MovementKind.INVOICED: (AccountKind.RECEIVABLE, True),
    MovementKind.UNINVOICED: (AccountKind.RECEIVABLE, False),
}
# Of invoices, beside the wallet: the kinds of the sides, from and to.
_BESIDE_WALLET = {
    MovementKind.PAYMENT: (AccountKind.CASH, AccountKind.RECEIVABLE),
    MovementKind.TAX: (AccountKind.RECEIVABLE, AccountKind.TAX),
    MovementKind.UNTAX: (AccountKind.TAX, AccountKind.RECEIVABLE),
}
_WITHOUT_APPROVAL = (MovementKind.INVOICED, MovementKind.UNINVOICED, *_BESIDE_WALLET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants done. A `reference` makes a repeat safe; `expires_at` and `priority` are of grants.

    With `invoice_id` it is booked for an invoice, whose own figures say how much there is to pay or to undo
    (`billing.invoicing`): rounding to cents may have left the receivable account with a little less.
    """

    kind: MovementKind
    customer_id: int
    amount_nanousd: int
    reason: str
    author: str
    actor: Actor | None = None
    reference: str = field(default_factory=lambda: make_id("mov"))
    expires_at: datetime | None = None
    priority: int = 100
    invoice_id: int | None = None


def order_movement(order: Order, *, now: datetime | None = None) -> Movement:
    """Book an order, or leave it to a second person where it is large; return what became of it.

    The same reference with the same content returns the first movement. Raises AmountInvalid for an amount that is
    out of range or not there, ReferenceUsed for a reference that names something else.
    """
    _check(order)
    now = now or datetime.now(UTC)
    with transaction.atomic():
        account = lock_wallet(order.customer_id)
        earlier = Movement.objects.filter(reference=order.reference).first()
        if earlier is not None:
            content = (earlier.kind, earlier.customer_id, earlier.amount_nanousd)
            if content != (order.kind, order.customer_id, order.amount_nanousd):
                raise ReferenceUsed(reference=order.reference)
            return earlier
        movement = Movement(
            kind=order.kind,
            status=MovementStatus.WAITING,
            customer_id=order.customer_id,
            amount_nanousd=order.amount_nanousd,
            expires_at=order.expires_at,
            priority=order.priority,
            reference=order.reference,
            reason=order.reason.strip()[:200],
            author=order.author,
            created_at=now,
            invoice_id=order.invoice_id,
        )
        actor = order.actor or author_actor(order.author)
        if order.kind not in _WITHOUT_APPROVAL and order.amount_nanousd >= settings.MONEY_APPROVAL_NANOUSD:
            movement.save()
            _record(movement, "waiting", actor, order.reason)
            return movement
        _book(movement, account, now)
        _record(movement, "booked", actor, order.reason)
        return movement


def approve_movement(movement_id: int, *, author: str, reason: str = "", actor: Actor | None = None) -> Movement:
    """Book a waiting movement and return it.

    Raises ApprovalRefused for its own author, MovementDecided when it no longer waits, AmountInvalid when what it
    needs is no longer there (it goes on waiting).
    """
    with transaction.atomic():
        movement, account = _lock_waiting(movement_id)
        if movement.author == author:
            raise ApprovalRefused
        _decide(movement, author, reason)
        _book(movement, account, datetime.now(UTC))
        _record(movement, "approved", actor or author_actor(author), reason)
        return movement


def reject_movement(movement_id: int, *, author: str, reason: str, actor: Actor | None = None) -> Movement:
    """Turn a waiting movement down and return it; its own author may withdraw it so.

    Raises MovementDecided when it no longer waits.
    """
    with transaction.atomic():
        movement, _ = _lock_waiting(movement_id)
        if movement.author != author:
            _decide(movement, author, reason)
        movement.decision_reason = reason.strip()[:200]
        movement.decided_at = datetime.now(UTC)
        movement.status = MovementStatus.REJECTED
        movement.save()
        _record(movement, "rejected", actor or author_actor(author), reason)
        return movement


def book_for_invoice(order: Order, *, now: datetime | None = None) -> Transfer:
    """Book what an invoice moves, and return its transfer; it never waits for a second person.

    INVOICED takes what the wallet owes over to the receivable account, UNINVOICED undoes that, PAYMENT brings cash,
    TAX adds to what is owed, UNTAX takes that back. Raises AmountInvalid for more than is owed. Safe to repeat with
    the same reference.
    """
    assert order.kind in _WITHOUT_APPROVAL, order.kind
    transfer = order_movement(order, now=now).transfer
    assert transfer is not None, "invoices do not wait for approval"
    return transfer


def read_receivable(customer_id: int) -> int:
    """Return what a customer owes on invoices."""
    return -sum_transfers(open_receivable_account(customer_id))


def _check(order: Order) -> None:
    if not order.reason.strip():
        raise AmountInvalid("Say what it is for: the reason stays in the ledger.", param="reason")
    least = 0 if order.kind is MovementKind.CREDIT_LIMIT else 1
    if not least <= order.amount_nanousd <= MOST_NANOUSD:
        raise AmountInvalid("The amount must be positive and below nine million USD.", param="amount")
    if order.expires_at is not None and order.kind is not MovementKind.GRANT:
        raise AmountInvalid("Only grants expire.", param="expires_at")


def lock_wallet(customer_id: int) -> Account:
    """Return a customer's wallet with its row locked: the first lock of whatever moves the customer's money."""
    return Account.objects.select_for_update(no_key=True).get(pk=open_customer_account(customer_id).pk)


def _lock_waiting(movement_id: int) -> tuple[Movement, Account]:
    customer_id = Movement.objects.values_list("customer_id", flat=True).get(pk=movement_id)
    account = lock_wallet(customer_id)
    movement = Movement.objects.select_related("customer").get(pk=movement_id)
    if movement.status != MovementStatus.WAITING:
        raise MovementDecided(status=movement.get_status_display().lower())
    return movement, account


def _decide(movement: Movement, author: str, reason: str) -> None:
    movement.decided_by = author
    movement.decided_at = datetime.now(UTC)
    movement.decision_reason = reason.strip()[:200]


def _book(movement: Movement, account: Account, now: datetime) -> None:
    """Make the movement's transfer under the wallet's lock, and write the movement as booked."""
    kind = MovementKind(movement.kind)
    if movement.expires_at is not None and movement.expires_at <= now:
        raise AmountInvalid("The grant would have expired already: give a later expiry.", param="expires_at")
    open_grants = settle_grants(account, to_us(now))
    if kind is MovementKind.CREDIT_LIMIT:
        account.credit_nanousd = movement.amount_nanousd
    elif kind in _BESIDE_WALLET:
        if kind is MovementKind.PAYMENT and movement.invoice_id is None:
            _check_room(movement, read_receivable(movement.customer_id), "is owed on invoices")
        debit, credit = (_open_side(side, movement.customer_id) for side in _BESIDE_WALLET[kind])
        movement.transfer = _append(movement, debit, credit, now)
    else:
        _move_wallet(movement, kind, account, now)
    if kind is MovementKind.GRANT and movement.transfer is not None:
        grant = Grant.objects.create(
            account=account,
            transfer=movement.transfer,
            amount_nanousd=movement.amount_nanousd,
            expires_us=None if movement.expires_at is None else to_us(movement.expires_at),
            priority=movement.priority,
            created_at=now,
        )
        expiries = [e for e in (first_expiry(open_grants), grant.expires_us) if e is not None]
        account.next_expiry_us = min(expiries, default=None)
    account.save(update_fields=["posted_nanousd", "prepaid_nanousd", "credit_nanousd", "next_expiry_us"])
    movement.status = MovementStatus.BOOKED
    movement.save()


def _move_wallet(movement: Movement, kind: MovementKind, account: Account, now: datetime) -> None:
    counterpart_kind, comes_in = _COUNTERPARTS[kind]
    counterpart = _open_side(counterpart_kind, movement.customer_id)
    if kind is MovementKind.INVOICED:
        _check_room(movement, max(0, -account.prepaid_nanousd), "is owed and not invoiced yet")
    elif kind is MovementKind.UNINVOICED:
        if movement.invoice_id is None:
            _check_room(movement, read_receivable(movement.customer_id), "is owed on invoices")
    elif not comes_in:
        _check_room(movement, spendable_prepaid(account), "is prepaid, not granted, and not held by calls in flight")
    debit, credit = (counterpart, account) if comes_in else (account, counterpart)
    movement.transfer = _append(movement, debit, credit, now)
    signed = movement.amount_nanousd if comes_in else -movement.amount_nanousd
    account.posted_nanousd += signed
    if kind is not MovementKind.GRANT:
        account.prepaid_nanousd += signed


def _open_side(kind: AccountKind, customer_id: int) -> Account:
    return open_receivable_account(customer_id) if kind is AccountKind.RECEIVABLE else open_platform_account(kind)


def spendable_prepaid(account: Account) -> int:
    """Return what of a wallet can be paid back: prepaid and free of holds."""
    return max(0, min(account.prepaid_nanousd, account.posted_nanousd - account.held_nanousd))


def _check_room(movement: Movement, room_nanousd: int, what: str) -> None:
    if movement.amount_nanousd > room_nanousd:
        raise AmountInvalid(f"Only {format_usd(room_nanousd)} USD {what}.", param="amount")


def _append(movement: Movement, debit: Account, credit: Account, now: datetime) -> Transfer:
    return Transfer.objects.create(
        kind=TransferKind.DIRECT,
        debit_account=debit,
        credit_account=credit,
        amount_nanousd=movement.amount_nanousd,
        reference=movement.reference,
        reason=movement.reason,
        author=movement.author,
        created_at=now,
    )


def _record(movement: Movement, verb: str, actor: Actor, reason: str) -> None:
    record_event(
        actor=actor,
        action=f"{movement.kind}.{verb}",
        target=Customer.objects.get(pk=movement.customer_id),
        after={"amount_nanousd": movement.amount_nanousd, "movement": movement.pk, "transfer": movement.transfer_id},
        reason=reason,
    )

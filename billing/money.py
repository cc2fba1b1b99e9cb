"""Money that people and commands move: top-ups, grants, refunds, credit notes, adjustments, limits, invoices, suspense.

Each is one `Movement` with reason and author, and one transfer. From `settings.MONEY_APPROVAL_NANOUSD` on it waits
for a second person (`approve_movement`); invoices and their payments have their own way and do not wait. Everything
happens under the lock of the customer's wallet, after a look at its grants, so that `billing.grants` holds; what is
of no customer, under the lock of the platform's account that it takes from.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction

from billing.accounts import open_customer_account, open_platform_account, open_receivable_account, sum_transfers
from billing.errors import AmountInvalid, ApprovalRefused, MovementDecided, ReferenceUsed
from billing.grants import find_next_change, open_grant, settle_grants
from billing.models import Account, AccountKind, Transfer, TransferKind
from billing.money_models import Movement, MovementKind, MovementStatus
from common.clock import to_us
from common.ids import make_id
from common.money import MAX_NANOUSD, format_usd
from keys.audit import Actor, author_actor, record_event
from keys.models import Customer

MOST_NANOUSD = MAX_NANOUSD // 1_000
# The other side of a wallet's movement, and whether the money comes in.
_COUNTERPARTS = {
    MovementKind.TOP_UP: (AccountKind.CASH, True),
    MovementKind.REFUND: (AccountKind.CASH, False),
    MovementKind.CREDIT_NOTE: (AccountKind.REVENUE, True),
    MovementKind.ADJUSTMENT_UP: (AccountKind.CREDIT_SOURCE, True),
    MovementKind.ADJUSTMENT_DOWN: (AccountKind.CREDIT_SOURCE, False),
    MovementKind.INVOICED: (AccountKind.RECEIVABLE, True),
    MovementKind.UNINVOICED: (AccountKind.RECEIVABLE, False),
    MovementKind.SUSPENSE_RETURN: (AccountKind.SUSPENSE, True),
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
    """What somebody wants done. A `reference` makes a repeat safe.

    `starts_at` (None: now), `expires_at` and `priority` are of grants. Only a release of suspense is of no customer.
    With `invoice_id` it is booked for an invoice, whose own figures say how much there is to pay or to undo
    (`billing.invoicing`): rounding to cents may have left the receivable account with a little less.
    """

    kind: MovementKind
    customer_id: int | None
    amount_nanousd: int
    reason: str
    author: str
    actor: Actor | None = None
    reference: str = field(default_factory=lambda: make_id("mov"))
    # False for commands: who runs them on the server has other powers.
    waits_when_large: bool = True
    starts_at: datetime | None = None
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
        account = _lock_account(order.customer_id)
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
            starts_us=None if order.starts_at is None else to_us(order.starts_at),
            expires_at=order.expires_at,
            priority=order.priority,
            reference=order.reference,
            reason=order.reason.strip()[:200],
            author=order.author,
            created_at=now,
            invoice_id=order.invoice_id,
        )
        actor = order.actor or author_actor(order.author)
        can_wait = order.waits_when_large and order.kind not in _WITHOUT_APPROVAL
        if can_wait and order.amount_nanousd >= settings.MONEY_APPROVAL_NANOUSD:
            movement.save()
            _record(movement, "waiting", actor, order.reason)
            return movement
        _book(movement, account, now)
        _record(movement, movement.status, actor, order.reason)
        return movement


def approve_movement(movement_id: int, *, author: str, reason: str = "", actor: Actor | None = None) -> Movement:
    """Book a waiting movement and return it.

    Raises ApprovalRefused for its own author, MovementDecided when it no longer waits, AmountInvalid when what it
    needs is no longer there (it goes on waiting).
    """
    with transaction.atomic():
        movement, account = _lock_waiting(movement_id, MovementStatus.WAITING)
        if movement.author == author:
            raise ApprovalRefused
        _decide(movement, author, reason)
        _book(movement, account, datetime.now(UTC))
        _record(movement, "approved", actor or author_actor(author), reason)
        return movement


def reject_movement(movement_id: int, *, author: str, reason: str, actor: Actor | None = None) -> Movement:
    """Turn down a movement that waits, or a grant that has not begun, and return it; its author may withdraw it so.

    Raises MovementDecided when it is decided, or has begun.
    """
    with transaction.atomic():
        movement, account = _lock_waiting(movement_id, MovementStatus.WAITING, MovementStatus.PLANNED)
        if movement.author != author:
            _decide(movement, author, reason)
        movement.decision_reason = reason.strip()[:200]
        movement.decided_at = datetime.now(UTC)
        movement.status = MovementStatus.REJECTED
        movement.save()
        if movement.starts_us is not None:
            settle_grants(account, to_us(movement.decided_at))
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
    if (order.customer_id is None) is not (order.kind is MovementKind.SUSPENSE_RELEASE):
        raise AmountInvalid("Name the customer; only a release of suspense has none.", param="customer")
    if not order.reason.strip():
        raise AmountInvalid("Say what it is for: the reason stays in the ledger.", param="reason")
    least = 0 if order.kind is MovementKind.CREDIT_LIMIT else 1
    if not least <= order.amount_nanousd <= MOST_NANOUSD:
        raise AmountInvalid("The amount must be positive and below nine million USD.", param="amount")
    is_grant = order.kind is MovementKind.GRANT
    if order.expires_at is not None and not is_grant:
        raise AmountInvalid("Only grants expire.", param="expires_at")
    if order.starts_at is not None and not is_grant:
        raise AmountInvalid("Only grants begin later.", param="starts_at")
    if order.starts_at is not None and order.expires_at is not None and order.expires_at <= order.starts_at:
        raise AmountInvalid("The grant would expire before it begins: give a later expiry.", param="expires_at")


def _lock_account(customer_id: int | None) -> Account:
    """Lock a customer's wallet; for what is of no customer, suspense."""
    if customer_id is not None:
        return lock_wallet(customer_id)
    return Account.objects.select_for_update(no_key=True).get(pk=open_platform_account(AccountKind.SUSPENSE).pk)


def lock_wallet(customer_id: int) -> Account:
    """Return a customer's wallet with its row locked: the first lock of whatever moves the customer's money."""
    return Account.objects.select_for_update(no_key=True).get(pk=open_customer_account(customer_id).pk)


def _lock_waiting(movement_id: int, *statuses: MovementStatus) -> tuple[Movement, Account]:
    customer_id = Movement.objects.values_list("customer_id", flat=True).get(pk=movement_id)
    account = _lock_account(customer_id)
    if customer_id is not None:
        # A planned grant that is due has begun.
        settle_grants(account, to_us(datetime.now(UTC)))
    movement = Movement.objects.select_related("customer").get(pk=movement_id)
    if movement.status not in statuses:
        raise MovementDecided(status=movement.get_status_display().lower())
    return movement, account


def _decide(movement: Movement, author: str, reason: str) -> None:
    movement.decided_by = author
    movement.decided_at = datetime.now(UTC)
    movement.decision_reason = reason.strip()[:200]


def _book(movement: Movement, account: Account, now: datetime) -> None:
    """Make the movement's transfer under the account's lock, and write the movement as booked (or planned)."""
    kind = MovementKind(movement.kind)
    if kind is MovementKind.SUSPENSE_RELEASE:
        _check_room(movement, sum_transfers(account), "is in suspense")
        movement.transfer = _append(movement, account, open_platform_account(AccountKind.REVENUE), now)
        movement.status = MovementStatus.BOOKED
        movement.save()
        return
    settle_grants(account, to_us(now))
    if kind is MovementKind.GRANT:
        _book_grant(movement, account, now)
        return
    if kind is MovementKind.CREDIT_LIMIT:
        account.credit_nanousd = movement.amount_nanousd
    elif kind in _BESIDE_WALLET:
        assert movement.customer_id is not None
        if kind is MovementKind.PAYMENT and movement.invoice_id is None:
            _check_room(movement, read_receivable(movement.customer_id), "is owed on invoices")
        debit, credit = (_open_side(side, movement.customer_id) for side in _BESIDE_WALLET[kind])
        movement.transfer = _append(movement, debit, credit, now)
    else:
        _move_wallet(movement, kind, account, now)
    account.save(update_fields=["posted_nanousd", "prepaid_nanousd", "credit_nanousd"])
    movement.status = MovementStatus.BOOKED
    movement.save()


def _book_grant(movement: Movement, account: Account, now: datetime) -> None:
    """Give a grant now, or plan it; who looks at the wallet after its start gives it then."""
    if movement.expires_at is not None and movement.expires_at <= now:
        raise AmountInvalid("The grant would have expired already: give a later expiry.", param="expires_at")
    if movement.starts_us is not None and movement.starts_us > to_us(now):
        # The batch of calls that gives it can open no account.
        open_platform_account(AccountKind.CREDIT_SOURCE)
        movement.status = MovementStatus.PLANNED
        movement.save()
    else:
        open_grant(account, movement, now)
    account.grants_due_us = find_next_change(account)
    account.save(update_fields=["posted_nanousd", "grants_due_us"])


def _move_wallet(movement: Movement, kind: MovementKind, account: Account, now: datetime) -> None:
    counterpart_kind, comes_in = _COUNTERPARTS[kind]
    assert movement.customer_id is not None
    counterpart = _open_side(counterpart_kind, movement.customer_id)
    if kind is MovementKind.INVOICED:
        _check_room(movement, max(0, -account.prepaid_nanousd), "is owed and not invoiced yet")
    elif kind is MovementKind.UNINVOICED:
        if movement.invoice_id is None:
            _check_room(movement, read_receivable(movement.customer_id), "is owed on invoices")
    elif kind is MovementKind.SUSPENSE_RETURN:
        # Locked after the wallet; nothing locks the two the other way round.
        suspense = Account.objects.select_for_update(no_key=True).get(pk=counterpart.pk)
        _check_room(movement, sum_transfers(suspense), "is in suspense")
    elif not comes_in:
        _check_room(movement, spendable_prepaid(account), "is prepaid, not granted, and not held by calls in flight")
    debit, credit = (counterpart, account) if comes_in else (account, counterpart)
    movement.transfer = _append(movement, debit, credit, now)
    signed = movement.amount_nanousd if comes_in else -movement.amount_nanousd
    account.posted_nanousd += signed
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
        target=_target_of(movement),
        after={"amount_nanousd": movement.amount_nanousd, "movement": movement.pk, "transfer": movement.transfer_id},
        reason=reason,
    )


def _target_of(movement: Movement) -> Customer | Account:
    """Return whose page of the trail tells of a movement."""
    if movement.customer_id is None:
        return open_platform_account(AccountKind.SUSPENSE)
    return Customer.objects.get(pk=movement.customer_id)

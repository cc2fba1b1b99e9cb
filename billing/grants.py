"""What of a wallet is granted and what prepaid: derived, exactly, and only when somebody must know.

A call moves one wallet and knows nothing of grants. Between two looks at a wallet nothing but calls can have taken
money from it, because every other movement looks first (`billing.money`). So what calls have spent since is

    prepaid at the last look + rest of each grant at the last look - posted now

and it is laid on the grants in their order (priority, first to expire, oldest), the remainder on the prepaid part.
What was laid on a grant is an immutable `Allocation`. A prepaid part below zero is what the customer owes: a grant
never pays for calls that were made before it was given.

A grant that begins later is a planned `Movement` until its start; the first look after that books it.

An expiry takes what is left of a grant out of the wallet, except what calls in flight hold that were admitted
before it: that much stays until they end, and pays first. Everything here runs under the lock of the wallet's row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Min, QuerySet, Sum
from django.db.models.functions import Coalesce

from billing.accounts import open_platform_account
from billing.models import Account, AccountKind, Hold, Transfer, TransferKind
from billing.money_models import Allocation, Grant, Movement, MovementStatus
from common.clock import from_us, to_us

_AUTHOR = "platform"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGrant:
    """A grant with something left."""

    grant: Grant
    rest_nanousd: int

    def has_expired(self, now_us: int) -> bool:
        return self.grant.expires_us is not None and self.grant.expires_us <= now_us


def lay_on_grants(spent_nanousd: int, rests_nanousd: Sequence[int]) -> tuple[list[int], int]:
    """Return how much of what was spent each grant pays, in their order, and what the prepaid part pays."""
    paid = []
    left = spent_nanousd
    for rest in rests_nanousd:
        part = max(0, min(rest, left))
        paid.append(part)
        left -= part
    return paid, left


def find_open_grants(account: Account, *, using: str | None = None) -> list[OpenGrant]:
    """Return the grants of a wallet with something left at the last look, in the order of their spending."""
    used = Coalesce(Sum("allocations__amount_nanousd"), 0)
    rows = (
        Grant.objects.using(using)
        .select_related("transfer")
        .filter(account_id=account.pk)
        .annotate(used=used)
        .filter(used__lt=F("amount_nanousd"))
        .order_by("priority", F("expires_us").asc(nulls_last=True), "id")
    )
    return [OpenGrant(grant=row, rest_nanousd=row.amount_nanousd - row.used) for row in rows]


def derive_split(account: Account, grants: Sequence[OpenGrant]) -> tuple[int, list[OpenGrant], list[int]]:
    """Return a wallet's prepaid part, the grants with what is left of them now, and what each has paid since."""
    rests = [grant.rest_nanousd for grant in grants]
    paid, _ = lay_on_grants(account.prepaid_nanousd + sum(rests) - account.posted_nanousd, rests)
    now_open = [
        OpenGrant(grant=g.grant, rest_nanousd=g.rest_nanousd - part) for g, part in zip(grants, paid, strict=True)
    ]
    return account.posted_nanousd - sum(g.rest_nanousd for g in now_open), now_open, paid


def expirable_parts(
    account_id: int, grants: Sequence[OpenGrant], now_us: int, *, using: str | None = None
) -> list[int]:
    """Return how much of each grant an expiry takes now: nothing before its time, and nothing that old calls hold."""
    parts = []
    kept = 0
    for grant in grants:
        if not grant.rest_nanousd or not grant.has_expired(now_us):
            parts.append(0)
            continue
        held = Hold.objects.using(using).filter(account_id=account_id, created_us__lt=grant.grant.expires_us)
        keeps = min(grant.rest_nanousd, max(0, (held.aggregate(t=Sum("amount_nanousd"))["t"] or 0) - kept))
        kept += keeps
        parts.append(grant.rest_nanousd - keeps)
    return parts


def find_planned_grants(customer_id: int, *, using: str | None = None) -> QuerySet[Movement]:
    """Return the grants of a customer that have not been booked yet, in the order in which they begin."""
    planned = Movement.objects.using(using).filter(customer_id=customer_id, status=MovementStatus.PLANNED)
    return planned.order_by("starts_us", "id")


def open_grant(account: Account, movement: Movement, now: datetime, *, using: str | None = None) -> None:
    """Book a grant: its transfer into the wallet (whose sums are left to be saved) and its row.

    The caller holds the wallet's lock and has looked at its grants.
    """
    movement.transfer = Transfer.objects.using(using).create(
        kind=TransferKind.DIRECT,
        debit_account=open_platform_account(AccountKind.CREDIT_SOURCE, using=using),
        credit_account_id=account.pk,
        amount_nanousd=movement.amount_nanousd,
        reference=movement.reference,
        reason=movement.reason,
        author=movement.author,
        created_at=now,
    )
    Grant.objects.using(using).create(
        account_id=account.pk,
        transfer=movement.transfer,
        amount_nanousd=movement.amount_nanousd,
        expires_us=None if movement.expires_at is None else to_us(movement.expires_at),
        priority=movement.priority,
        created_at=now,
    )
    movement.status = MovementStatus.BOOKED
    movement.save(using=using)
    account.posted_nanousd += movement.amount_nanousd


def settle_grants(account: Account, now_us: int, *, using: str | None = None) -> None:
    """Lay what calls have spent on the grants, book what has begun, take back what has expired.

    The caller holds the lock of the wallet's row, whose columns are written here. Safe to repeat.
    """
    grants = find_open_grants(account, using=using)
    prepaid, grants, paid = derive_split(account, grants)
    now = from_us(now_us)
    for known, part in zip(grants, paid, strict=True):
        if part:
            Allocation.objects.using(using).create(grant=known.grant, amount_nanousd=part, created_at=now)
    begun = find_planned_grants(account.customer_id or 0, using=using).filter(starts_us__lte=now_us)
    for movement in begun:
        open_grant(account, movement, now, using=using)
    # The prepaid part is what it was: what has begun is granted whole, and expires below if that is due as well.
    grants = find_open_grants(account, using=using)
    for known, part in zip(grants, expirable_parts(account.pk, grants, now_us, using=using), strict=True):
        if part:
            _expire(account, known.grant, part, now, using=using)
    account.prepaid_nanousd = prepaid
    account.grants_due_us = find_next_change(account, using=using)
    account.save(using=using, update_fields=["prepaid_nanousd", "posted_nanousd", "grants_due_us"])


def find_next_change(account: Account, *, using: str | None = None) -> int | None:
    """Return when the next grant begins or one with something left expires, in microseconds since the epoch."""
    expiries = [open_grant.grant.expires_us for open_grant in find_open_grants(account, using=using)]
    starts = find_planned_grants(account.customer_id or 0, using=using).aggregate(first=Min("starts_us"))
    return min((moment for moment in (*expiries, starts["first"]) if moment is not None), default=None)


def _expire(account: Account, grant: Grant, amount_nanousd: int, now: datetime, *, using: str | None) -> None:
    transfer = Transfer.objects.using(using).create(
        kind=TransferKind.DIRECT,
        debit_account_id=account.pk,
        credit_account=open_platform_account(AccountKind.CREDIT_SOURCE, using=using),
        amount_nanousd=amount_nanousd,
        reason=f"grant {grant.pk} expired",
        author=_AUTHOR,
        created_at=now,
    )
    Allocation.objects.using(using).create(
        grant=grant, amount_nanousd=amount_nanousd, transfer=transfer, created_at=now
    )
    account.posted_nanousd -= amount_nanousd

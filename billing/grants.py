"""What of a wallet is granted and what prepaid: derived, exactly, and only when somebody must know.

A call moves one wallet and knows nothing of grants. Between two looks at a wallet nothing but calls can have taken
money from it, because every other movement looks first (`billing.money`). So what calls have spent since is

    prepaid at the last look + rest of each grant at the last look - posted now

and it is laid on the grants in their order (priority, first to expire, oldest), the remainder on the prepaid part.
What was laid on a grant is an immutable `Allocation`. A prepaid part below zero is what the customer owes: a grant
never pays for calls that were made before it was given.

An expiry takes what is left of a grant out of the wallet, except what calls in flight hold that were admitted
before it: that much stays until they end, and pays first. Everything here runs under the lock of the wallet's row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Sum
from django.db.models.functions import Coalesce

from billing.accounts import open_platform_account
from billing.models import Account, AccountKind, Hold, Transfer, TransferKind
from billing.money_models import Allocation, Grant
from common.clock import from_us

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


def settle_grants(account: Account, now_us: int, *, using: str | None = None) -> list[OpenGrant]:
    """Lay what calls have spent on the grants, take back what has expired, and return the grants that are left.

    The caller holds the lock of the wallet's row, whose columns are written here. Safe to repeat.
    """
    grants = find_open_grants(account, using=using)
    prepaid, grants, paid = derive_split(account, grants)
    now = from_us(now_us)
    for open_grant, part in zip(grants, paid, strict=True):
        if part:
            Allocation.objects.using(using).create(grant=open_grant.grant, amount_nanousd=part, created_at=now)
    left = []
    parts = expirable_parts(account.pk, grants, now_us, using=using)
    for open_grant, part in zip(grants, parts, strict=True):
        if part:
            _expire(account, open_grant.grant, part, now, using=using)
        if part < open_grant.rest_nanousd:
            left.append(OpenGrant(grant=open_grant.grant, rest_nanousd=open_grant.rest_nanousd - part))
    account.prepaid_nanousd = prepaid
    account.next_expiry_us = first_expiry(left)
    account.save(using=using, update_fields=["prepaid_nanousd", "posted_nanousd", "next_expiry_us"])
    return left


def first_expiry(grants: Sequence[OpenGrant]) -> int | None:
    """Return when the first of the grants expires, in microseconds since the epoch."""
    return min((g.grant.expires_us for g in grants if g.grant.expires_us is not None), default=None)


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

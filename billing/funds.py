"""A customer's money as it is at a moment, in its parts; reads only."""

from dataclasses import dataclass
from datetime import datetime

from billing.accounts import receivable_account_code, sum_transfers
from billing.grants import OpenGrant, derive_split, expirable_parts, find_open_grants
from billing.models import Account
from common.clock import SYSTEM_CLOCK, from_us


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLeft:
    """What is left of a grant."""

    id: int
    amount_nanousd: int
    rest_nanousd: int
    expires_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """A wallet in its parts, in nano-USD. Prepaid and granted add up to `posted`; a negative prepaid part is owed."""

    posted_nanousd: int = 0
    held_nanousd: int = 0
    credit_nanousd: int = 0
    prepaid_nanousd: int = 0
    grants: tuple[GrantLeft, ...] = ()
    # On invoices that are not paid yet.
    receivable_nanousd: int = 0

    @property
    def granted_nanousd(self) -> int:
        return self.posted_nanousd - self.prepaid_nanousd

    @property
    def owed_nanousd(self) -> int:
        """What calls have cost beyond all money, and no invoice has asked for yet."""
        return max(0, -self.prepaid_nanousd)

    @property
    def available_nanousd(self) -> int:
        return self.posted_nanousd + self.credit_nanousd - self.held_nanousd


def read_funds(customer_id: int, *, now_us: int | None = None) -> Funds:
    """Return a customer's money now: what has expired is gone, whether or not it has been booked yet."""
    moment = SYSTEM_CLOCK.now_us() if now_us is None else now_us
    account = Account.objects.filter(customer_id=customer_id).first()
    if account is None:
        return Funds()
    prepaid, grants, _ = derive_split(account, find_open_grants(account))
    parts = expirable_parts(account.pk, grants, moment)
    left = [
        OpenGrant(grant=g.grant, rest_nanousd=g.rest_nanousd - part)
        for g, part in zip(grants, parts, strict=True)
        if g.rest_nanousd > part
    ]
    receivable = Account.objects.filter(code=receivable_account_code(customer_id)).first()
    return Funds(
        posted_nanousd=account.posted_nanousd - sum(parts),
        held_nanousd=account.held_nanousd,
        credit_nanousd=account.credit_nanousd,
        prepaid_nanousd=prepaid,
        grants=tuple(_describe(g) for g in left),
        receivable_nanousd=0 if receivable is None else -sum_transfers(receivable),
    )


def _describe(left: OpenGrant) -> GrantLeft:
    grant = left.grant
    return GrantLeft(
        id=grant.pk,
        amount_nanousd=grant.amount_nanousd,
        rest_nanousd=left.rest_nanousd,
        expires_at=None if grant.expires_us is None else from_us(grant.expires_us),
        reason=grant.transfer.reason,
    )

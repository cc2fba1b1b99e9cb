"""A customer's money as it is at a moment, in its parts; reads only."""

from dataclasses import dataclass
from datetime import datetime

from billing.accounts import receivable_account_code, sum_transfers
from billing.grants import OpenGrant, derive_split, expirable_parts, find_open_grants, find_planned_grants
from billing.models import Account
from billing.money_models import Movement
from common.clock import SYSTEM_CLOCK, from_us, to_us


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLeft:
    """What is left of a grant."""

    amount_nanousd: int
    rest_nanousd: int
    expires_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGrant:
    """A grant that begins later."""

    amount_nanousd: int
    starts_at: datetime
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
    # Not part of any sum.
    planned: tuple[PlannedGrant, ...] = ()
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
    """Return a customer's money now: what has begun is there and what has expired gone, booked or not yet."""
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
    planned = list(find_planned_grants(customer_id))
    # Booked by the next call, or within a minute; what has expired by now as well will never have been there.
    begun = [m for m in planned if _has_begun(m, moment) and (m.expires_at is None or to_us(m.expires_at) > moment)]
    receivable = Account.objects.filter(code=receivable_account_code(customer_id)).first()
    return Funds(
        posted_nanousd=account.posted_nanousd - sum(parts) + sum(m.amount_nanousd for m in begun),
        held_nanousd=account.held_nanousd,
        credit_nanousd=account.credit_nanousd,
        prepaid_nanousd=prepaid,
        grants=(*(_describe(g) for g in left), *(_describe_begun(m) for m in begun)),
        planned=tuple(_describe_planned(m) for m in planned if not _has_begun(m, moment)),
        receivable_nanousd=0 if receivable is None else -sum_transfers(receivable),
    )


def _describe(left: OpenGrant) -> GrantLeft:
    grant = left.grant
    return GrantLeft(
        amount_nanousd=grant.amount_nanousd,
        rest_nanousd=left.rest_nanousd,
        expires_at=None if grant.expires_us is None else from_us(grant.expires_us),
        reason=grant.transfer.reason,
    )


def _has_begun(movement: Movement, now_us: int) -> bool:
    return movement.starts_us is None or movement.starts_us <= now_us


def _describe_begun(movement: Movement) -> GrantLeft:
    return GrantLeft(
        amount_nanousd=movement.amount_nanousd,
        rest_nanousd=movement.amount_nanousd,
        expires_at=movement.expires_at,
        reason=movement.reason,
    )


def _describe_planned(movement: Movement) -> PlannedGrant:
    return PlannedGrant(
        amount_nanousd=movement.amount_nanousd,
        starts_at=from_us(movement.starts_us or 0),
        expires_at=movement.expires_at,
        reason=movement.reason,
    )

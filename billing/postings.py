"""What usage says of whole hours, brought into the ledger: provider cost, and revenue that somebody must look at.

The request path books neither: two more transfers a call would double the ledger for figures that only sums need.
An hour is posted once it is closed and quiet, under a reference that names it, so that a repeat posts nothing.

Suspense takes what calls were charged whose counts are our own estimate, or which carry a flag: until somebody has
looked at them (Usage, filtered) and released the sum or given it back (`billing.money`), it does not count as revenue.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import Q, Sum
from django.db.models.functions import TruncHour

from billing.accounts import open_platform_account
from billing.models import Account, AccountKind, Transfer, TransferKind, UsageRecord, UsageSource

# A settlement carries the time of its batch and is seen at its commit: no commit takes longer.
_QUIET = timedelta(minutes=5)
_AUTHOR = "manage.py post_hours"
_TO_LOOK_AT = Q(source=UsageSource.ESTIMATED) | ~Q(flags="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What a run has posted."""

    hours: int
    provider_cost_nanousd: int
    suspense_nanousd: int


def post_hours(*, now: datetime | None = None) -> Posted:
    """Post every closed hour since the last one posted, each in its own transaction. Safe to repeat and to interrupt.

    One run at a time: the lock of the suspense account lets a second one wait, and then find nothing to do.
    """
    end = ((now or datetime.now(UTC)) - _QUIET).replace(minute=0, second=0, microsecond=0)
    sums = _read_sums(_last_hour(), end)
    posted = [_post_hour(row) for row in sums]
    return Posted(
        hours=len(sums),
        provider_cost_nanousd=sum(cost for cost, _ in posted),
        suspense_nanousd=sum(suspense for _, suspense in posted),
    )


class _HourSums(NamedTuple):
    hour: datetime
    provider_cost_nanousd: int
    suspect_nanousd: int


def _last_hour() -> datetime | None:
    """Return the last hour that was posted; it is looked at again, because it may have been posted in part."""
    last = (
        Transfer.objects.filter(
            credit_account=open_platform_account(AccountKind.PROVIDER_PAYABLE), reference__startswith="cost:"
        )
        .order_by("-id")
        .values_list("reference", flat=True)
        .first()
    )
    return None if last is None else datetime.fromisoformat(last.removeprefix("cost:"))


def _read_sums(start: datetime | None, end: datetime) -> list[_HourSums]:
    """Return the hours with calls from `start` on. Reads the table once: an index would cost every call a page."""
    usage = UsageRecord.objects.filter(settled_at__lt=end)
    if start is not None:
        usage = usage.filter(settled_at__gte=start)
    rows = (
        usage.annotate(hour=TruncHour("settled_at", tzinfo=UTC))
        .values("hour")
        .annotate(cost=Sum("provider_cost_nanousd"), suspect=Sum("charged_nanousd", filter=_TO_LOOK_AT))
        .order_by("hour")
    )
    return [_HourSums(row["hour"], row["cost"] or 0, row["suspect"] or 0) for row in rows]


def _post_hour(sums: _HourSums) -> tuple[int, int]:
    name = f"{sums.hour:%Y-%m-%dT%H:%M:%S+00:00}"
    said = f"calls settled from {sums.hour:%Y-%m-%d %H:%M} UTC, one hour"
    with transaction.atomic():
        suspense = Account.objects.select_for_update(no_key=True).get(pk=open_platform_account(AccountKind.SUSPENSE).pk)
        revenue = open_platform_account(AccountKind.REVENUE)
        expense = open_platform_account(AccountKind.PROVIDER_COST)
        payable = open_platform_account(AccountKind.PROVIDER_PAYABLE)
        posted = []
        for kind, amount, debit, credit in (
            ("cost", sums.provider_cost_nanousd, expense, payable),
            ("suspense", sums.suspect_nanousd, revenue, suspense),
        ):
            reference = f"{kind}:{name}"
            is_new = amount > 0 and not Transfer.objects.filter(reference=reference).exists()
            if is_new:
                _append(debit, credit, amount, reference=reference, reason=said, author=_AUTHOR)
            posted.append(amount if is_new else 0)
    return posted[0], posted[1]


def _append(
    debit: Account, credit: Account, amount_nanousd: int, *, reference: str, reason: str, author: str
) -> Transfer:
    return Transfer.objects.create(
        kind=TransferKind.DIRECT,
        debit_account=debit,
        credit_account=credit,
        amount_nanousd=amount_nanousd,
        reference=reference,
        reason=reason[:200],
        author=author,
        created_at=datetime.now(UTC),
    )

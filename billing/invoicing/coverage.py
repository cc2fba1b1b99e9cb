"""What has paid for the usage of an invoice, and what is left to pay.

Calls take money from the wallet as they happen: from grants, then from what was paid in advance; what neither covers,
the wallet owes. Whatever came into the wallet later has paid the oldest debt first. So of what the wallet owes now, the
invoiced time has left

    owed now - what calls since its end were charged + what grants have paid of those

and never less than nothing. The last term is derived like everything about grants (`billing.grants`): between two
looks at a wallet nothing but calls took money from it, so a look that came after the end is divided by what calls had
taken before it.

Tax is reckoned from what is left to pay, and rounded half to even to whole cents, as it is declared in cents: money
that was paid in advance was taxed where it was sold, and grants are no sale. What earlier roundings to cents have left
in the receivable account is carried over, and the total of it all is rounded to cents once, half to even.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, Q, QuerySet, Sum

from billing.grants import settle_grants
from billing.invoicing.document import NANO_PER_CENT
from billing.invoicing.others import OtherInvoices
from billing.invoicing.sums import read_charges
from billing.models import Account, Transfer, TransferKind, UsageRecord
from billing.money import read_receivable
from billing.money_models import Allocation, Grant, Movement
from common.clock import to_us
from common.money import divide_half_even

_MILLION = 1_000_000
# A call is settled at most a day after it began.
_LONGEST_CALL = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The sums of an invoice below its lines; names as in `billing.invoicing.document`."""

    granted_nanousd: int
    prepaid_nanousd: int
    net_nanousd: int
    carried_nanousd: int
    tax_nanousd: int
    total_nanousd: int
    due_cents: int


def measure_coverage(
    wallet: Account, *, usage_nanousd: int, tax_millionths: int, others: OtherInvoices, now: datetime
) -> Coverage:
    """Return how the usage of an invoice is paid for. The caller holds the lock of the wallet, which is settled."""
    customer_id = wallet.customer_id
    assert customer_id is not None
    settle_grants(wallet, to_us(now))
    owed = max(0, -wallet.prepaid_nanousd)
    spent_of_grants = _spent_of_grants(wallet)
    granted_until_end = _granted_until(wallet, others.end) if spent_of_grants else 0
    later = sum(charge.amount_nanousd for charge in read_charges(customer_id, others.end).values())
    left = min(owed, max(0, owed - later + spent_of_grants - granted_until_end))
    # What was settled since the lines were drawn up is owed too, and the next invoice's.
    net = max(0, min(left - others.unmoved_nanousd, usage_nanousd))
    granted = min(max(0, granted_until_end - others.granted_nanousd), max(0, usage_nanousd - net))
    carried = 0 if others.has_earlier_draft else read_receivable(customer_id) - others.open_nanousd
    tax = divide_half_even(net * tax_millionths, _MILLION * NANO_PER_CENT) * NANO_PER_CENT
    total = net + carried + tax
    return Coverage(
        granted_nanousd=granted,
        prepaid_nanousd=usage_nanousd - granted - net,
        net_nanousd=net,
        carried_nanousd=carried,
        tax_nanousd=tax,
        total_nanousd=total,
        due_cents=max(0, divide_half_even(total, NANO_PER_CENT)),
    )


def _spent_of_grants(wallet: Account, until: datetime | None = None) -> int:
    """Return what calls have spent of a wallet's grants, as far as it has been laid on them."""
    spent = Allocation.objects.filter(grant__account=wallet, transfer__isnull=True)
    return _sum(spent if until is None else spent.filter(created_at__lt=until))


def _granted_until(wallet: Account, end: datetime) -> int:
    """Return what grants have paid of the calls that began before `end`."""
    laid = _spent_of_grants(wallet, end)
    given = Grant.objects.filter(account=wallet, created_at__lt=end)
    gone = Allocation.objects.filter(grant__in=given, created_at__lt=end)
    rest = _sum(given) - _sum(gone)
    # What was laid after the end: only that much can have been paid between the last look before it and itself.
    return laid + min(rest, _spent_since_look(wallet, end), _spent_of_grants(wallet) - laid)


def _spent_since_look(wallet: Account, end: datetime) -> int:
    """Return what calls that began before `end` have taken from a wallet since the last look at it before then."""
    calls = Transfer.objects.filter(debit_account=wallet, created_at__lt=end).filter(
        Q(kind=TransferKind.POST) | Q(kind=TransferKind.DIRECT, request_id__isnull=False)
    )
    look = _last_look(wallet, end)
    spent = _sum(calls if look is None else calls.filter(created_at__gt=look))
    in_flight = UsageRecord.objects.filter(
        customer=wallet.customer, started_at__gte=end - _LONGEST_CALL, started_at__lt=end, settled_at__gte=end
    )
    return spent + (in_flight.aggregate(total=Sum("charged_nanousd"))["total"] or 0)


def _last_look(wallet: Account, end: datetime) -> datetime | None:
    """Return the last moment up to `end` at which the wallet's grants were settled, as far as that shows in rows.

    A look that left no row found nothing to lay, so the one before it serves as well.
    """
    looks = (
        Allocation.objects.filter(grant__account=wallet, created_at__lt=end),
        Transfer.objects.filter(credit_account=wallet, created_at__lt=end),
    )
    moments = [found.aggregate(last=Max("created_at"))["last"] for found in looks]
    moved = Movement.objects.filter(customer=wallet.customer, transfer__created_at__lt=end)
    moments.append(moved.aggregate(last=Max("transfer__created_at"))["last"])
    return max((moment for moment in moments if moment is not None), default=None)


def _sum(rows: QuerySet[Any]) -> int:
    return rows.aggregate(total=Sum("amount_nanousd"))["total"] or 0

"""A customer's statement: what was there, what moved and why, what is there now. Adds up to the nano-dollar.

Movements of people stand one by one with their sentence, calls are summed by UTC day.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncDate

from billing.ledger import explain_transfer
from billing.models import Account, Transfer, TransferKind

_MOVING = (TransferKind.DIRECT, TransferKind.POST)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One movement (`transfer_id`), or the calls of a day (`calls`); `amount` is what it did to the wallet."""

    day: date
    text: str
    amount_nanousd: int
    balance_nanousd: int
    transfer_id: int | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`opening` + the lines = `closing`; a negative balance is owed."""

    start: datetime
    end: datetime
    opening_nanousd: int
    lines: tuple[StatementLine, ...]
    closing_nanousd: int


def read_statement(customer_id: int, *, start: datetime, end: datetime) -> Statement:
    """Return the wallet's statement of [start, end)."""
    account = Account.objects.filter(customer_id=customer_id).first()
    opening = balance = 0 if account is None else _sum_before(account, start)
    lines = []
    for day, _, text, amount, transfer_id, calls in [] if account is None else _read_lines(account, start, end):
        balance += amount
        lines.append(
            StatementLine(
                day=day,
                text=text,
                amount_nanousd=amount,
                balance_nanousd=balance,
                transfer_id=transfer_id,
                calls=calls,
            )
        )
    return Statement(start=start, end=end, opening_nanousd=opening, lines=tuple(lines), closing_nanousd=balance)


def _sum_before(account: Account, moment: datetime) -> int:
    earlier = Transfer.objects.filter(kind__in=_MOVING, created_at__lt=moment)
    received = earlier.filter(credit_account=account).aggregate(t=Sum("amount_nanousd"))["t"] or 0
    left = earlier.filter(debit_account=account).aggregate(t=Sum("amount_nanousd"))["t"] or 0
    return int(received - left)


def _read_lines(account: Account, start: datetime, end: datetime) -> list[tuple[date, int, str, int, int | None, int]]:
    """Return day, rank, sentence, amount, transfer and number of calls, in the order of a statement."""
    moving = Transfer.objects.filter(
        Q(debit_account=account) | Q(credit_account=account),
        kind__in=_MOVING,
        created_at__gte=start,
        created_at__lt=end,
    )
    lines: list[tuple[date, int, str, int, int | None, int]] = []
    of_people = moving.filter(request_id__isnull=True).select_related("debit_account", "credit_account")
    for transfer in of_people.order_by("id"):
        signed = transfer.amount_nanousd * (1 if transfer.credit_account_id == account.pk else -1)
        day = transfer.created_at.astimezone(UTC).date()
        lines.append((day, transfer.pk, explain_transfer(transfer), signed, transfer.pk, 0))
    of_calls = (
        moving.filter(request_id__isnull=False)
        .annotate(day=TruncDate("created_at", tzinfo=UTC))
        .values("day")
        .annotate(total=Sum("amount_nanousd"), calls=Count("request_id", distinct=True))
        .order_by("day")
    )
    for row in of_calls:
        noun = "call" if row["calls"] == 1 else "calls"
        lines.append((row["day"], 2**63, f"{row['calls']:,} {noun} charged", -row["total"], None, row["calls"]))
    return sorted(lines, key=lambda line: line[:2])

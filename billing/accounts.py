"""Accounts and what is in them."""

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Sum

from billing.models import Account, AccountKind, Transfer, TransferKind

REVENUE_CODE = "platform:revenue"
CREDIT_SOURCE_CODE = "platform:credit"
_PLATFORM_CODES = {
    AccountKind.REVENUE: REVENUE_CODE,
    AccountKind.CREDIT_SOURCE: CREDIT_SOURCE_CODE,
    AccountKind.CASH: "platform:cash",
    AccountKind.SUSPENSE: "platform:suspense",
    AccountKind.PROVIDER_COST: "platform:provider_cost",
    AccountKind.PROVIDER_PAYABLE: "platform:provider_payable",
    AccountKind.TAX: "platform:tax",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A customer's wallet in nano-USD. `posted` is received minus spent; `held` is reserved by calls in flight.

    `credit` is how far the wallet may be spent below zero; a negative `posted` is what the customer owes.
    """

    posted_nanousd: int
    held_nanousd: int
    credit_nanousd: int = 0

    @property
    def available_nanousd(self) -> int:
        return self.posted_nanousd + self.credit_nanousd - self.held_nanousd


def customer_account_code(customer_id: int) -> str:
    """Return the code of a customer's wallet."""
    return f"customer:{customer_id}"


def receivable_account_code(customer_id: int) -> str:
    """Return the code of the account of what a customer owes on invoices."""
    return f"receivable:{customer_id}"


def open_customer_account(customer_id: int) -> Account:
    """Return the customer's wallet, opening it at its first use; safe to repeat."""
    account, _ = Account.objects.get_or_create(
        code=customer_account_code(customer_id),
        defaults={"kind": AccountKind.CUSTOMER, "customer_id": customer_id},
    )
    return account


def open_receivable_account(customer_id: int) -> Account:
    """Return the account of what a customer owes on invoices, opening it at its first use; safe to repeat."""
    account, _ = Account.objects.get_or_create(
        code=receivable_account_code(customer_id), defaults={"kind": AccountKind.RECEIVABLE}
    )
    return account


def open_platform_account(kind: AccountKind, *, using: str | None = None) -> Account:
    """Return one of the platform's own accounts; safe to repeat."""
    account, _ = Account.objects.using(using).get_or_create(code=_PLATFORM_CODES[kind], defaults={"kind": kind})
    return account


def get_balance(customer_id: int) -> Balance:
    """Return a customer's balance; without an account it is zero."""
    return get_balances([customer_id]).get(customer_id, Balance(posted_nanousd=0, held_nanousd=0))


def get_balances(customer_ids: Collection[int]) -> dict[int, Balance]:
    """Return the balances of customers in one query; those without an account are absent."""
    rows = Account.objects.filter(customer_id__in=customer_ids).values_list(
        "customer_id", "posted_nanousd", "held_nanousd", "credit_nanousd"
    )
    return {
        customer_id: Balance(posted_nanousd=posted, held_nanousd=held, credit_nanousd=credit)
        for customer_id, posted, held, credit in rows
    }


def sum_transfers(account: Account) -> int:
    """Return what has come into an account minus what has left it, from its transfers: for accounts of few rows."""
    moved = Transfer.objects.filter(kind__in=(TransferKind.DIRECT, TransferKind.POST))
    received = moved.filter(credit_account=account).aggregate(total=Sum("amount_nanousd"))["total"] or 0
    left = moved.filter(debit_account=account).aggregate(total=Sum("amount_nanousd"))["total"] or 0
    return int(received - left)

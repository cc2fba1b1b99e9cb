"""Accounts and what is in them."""

from collections.abc import Collection
from dataclasses import dataclass

from billing.models import Account, AccountKind

REVENUE_CODE = "platform:revenue"
CREDIT_SOURCE_CODE = "platform:credit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """A customer's money in nano-USD. `posted` is received minus spent; `held` is reserved by calls in flight."""

    posted_nanousd: int
    held_nanousd: int

    @property
    def available_nanousd(self) -> int:
        return self.posted_nanousd - self.held_nanousd


def customer_account_code(customer_id: int) -> str:
    """Return the code of a customer's account."""
    return f"customer:{customer_id}"


def open_customer_account(customer_id: int) -> Account:
    """Return the customer's account, opening it at its first use; safe to repeat."""
    account, _ = Account.objects.get_or_create(
        code=customer_account_code(customer_id),
        defaults={"kind": AccountKind.CUSTOMER, "customer_id": customer_id},
    )
    return account


def open_platform_account(kind: AccountKind) -> Account:
    """Return the platform's account of revenue or of granted credit; safe to repeat."""
    code = {AccountKind.REVENUE: REVENUE_CODE, AccountKind.CREDIT_SOURCE: CREDIT_SOURCE_CODE}[kind]
    account, _ = Account.objects.get_or_create(code=code, defaults={"kind": kind})
    return account


def get_balance(customer_id: int) -> Balance:
    """Return a customer's balance; without an account it is zero."""
    found = (
        Account.objects.filter(code=customer_account_code(customer_id))
        .values_list("posted_nanousd", "held_nanousd")
        .first()
    )
    posted, held = found or (0, 0)
    return Balance(posted_nanousd=posted, held_nanousd=held)


def get_balances(customer_ids: Collection[int]) -> dict[int, Balance]:
    """Return the balances of customers in one query; those without an account are absent."""
    rows = Account.objects.filter(customer_id__in=customer_ids).values_list(
        "customer_id", "posted_nanousd", "held_nanousd"
    )
    return {customer_id: Balance(posted_nanousd=posted, held_nanousd=held) for customer_id, posted, held in rows}

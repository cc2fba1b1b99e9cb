"""Credit given by commands, and what every transfer says; see `billing.money` and, for calls, `billing.journal`.

Every movement is one immutable transfer and the customer's balance, in one transaction under the account's lock.
"""

from datetime import UTC, datetime

from django.db import transaction

from billing.accounts import open_customer_account, open_platform_account
from billing.errors import AmountInvalid, ReferenceUsed
from billing.grants import settle_grants
from billing.models import Account, AccountKind, Transfer, TransferKind
from common.clock import to_us
from common.money import MAX_NANOUSD, format_usd
from keys.audit import Actor, author_actor, record_event
from keys.models import Customer

# What a direct transfer means follows from its two sides.
_SENTENCES = {
    (AccountKind.CASH, AccountKind.CUSTOMER): "The customer paid {} in advance",
    (AccountKind.CUSTOMER, AccountKind.CASH): "Paid {} back to the customer",
    (AccountKind.CREDIT_SOURCE, AccountKind.CUSTOMER): "Gave the customer {} of credit",
    (AccountKind.CUSTOMER, AccountKind.CREDIT_SOURCE): "Took {} of credit back",
    (AccountKind.REVENUE, AccountKind.CUSTOMER): "Credit note: gave {} of charges back",
    (AccountKind.RECEIVABLE, AccountKind.CUSTOMER): "Moved {} that the wallet owed to an invoice",
    (AccountKind.CUSTOMER, AccountKind.RECEIVABLE): "Took {} back from a void invoice",
    (AccountKind.CASH, AccountKind.RECEIVABLE): "The customer paid {} of an invoice",
    (AccountKind.RECEIVABLE, AccountKind.TAX): "Asked for {} of tax on an invoice",
    (AccountKind.TAX, AccountKind.RECEIVABLE): "Took {} of tax back from a void invoice",
    (AccountKind.PROVIDER_COST, AccountKind.PROVIDER_PAYABLE): "Booked {} that providers will bill",
    (AccountKind.REVENUE, AccountKind.SUSPENSE): "Set {} of revenue aside until somebody has looked at it",
    (AccountKind.SUSPENSE, AccountKind.REVENUE): "Released {} of revenue after a look at it",
    (AccountKind.SUSPENSE, AccountKind.CUSTOMER): "Gave {} of charges back that had been set aside",
}


def grant_credit(
    *,
    customer_id: int,
    amount_nanousd: int,
    reason: str,
    author: str,
    reference: str | None = None,
    actor: Actor | None = None,
) -> Transfer:
    """Give a customer prepaid credit and return its transfer.

    A `reference` makes a repeat safe: the same reference with the same customer and amount returns the first
    transfer. `actor` is who the audit trail names (default: the author). Raises AmountInvalid without a positive
    amount and a reason, ReferenceUsed for a reference that names something else.
    """
    if not reason.strip():
        raise AmountInvalid("Say what the credit is for: the reason stays in the ledger.", param="reason")
    if not 0 < amount_nanousd <= MAX_NANOUSD // 1_000:
        raise AmountInvalid("The amount must be positive and below nine million USD.", param="amount")
    source = open_platform_account(AccountKind.CREDIT_SOURCE)
    with transaction.atomic():
        account = Account.objects.select_for_update(no_key=True).get(pk=open_customer_account(customer_id).pk)
        if reference is not None:
            earlier = Transfer.objects.filter(reference=reference).first()
            if earlier is not None:
                if (earlier.credit_account_id, earlier.amount_nanousd) != (account.pk, amount_nanousd):
                    raise ReferenceUsed(reference=reference)
                return earlier
        now = datetime.now(UTC)
        settle_grants(account, to_us(now))
        transfer = Transfer.objects.create(
            kind=TransferKind.DIRECT,
            debit_account=source,
            credit_account=account,
            amount_nanousd=amount_nanousd,
            reference=reference,
            reason=reason.strip()[:200],
            author=author,
            created_at=now,
        )
        account.posted_nanousd += amount_nanousd
        account.prepaid_nanousd += amount_nanousd
        account.save(update_fields=["posted_nanousd", "prepaid_nanousd"])
        record_event(
            actor=actor or author_actor(author),
            action="credit.granted",
            target=Customer.objects.get(pk=customer_id),
            after={"amount_nanousd": amount_nanousd, "transfer": transfer.pk, "reference": reference},
            reason=reason,
        )
    return transfer


def explain_transfer(transfer: Transfer) -> str:
    """Return one sentence that says what a transfer did, for people who are not bookkeepers."""
    amount = f"{format_usd(transfer.amount_nanousd)} USD"
    match TransferKind(transfer.kind):
        case TransferKind.PENDING:
            return f"Reserved {amount}, the most that the call could cost; nothing was moved yet."
        case TransferKind.POST:
            return f"Charged {amount} for the call and released the rest of its hold."
        case TransferKind.VOID:
            return f"Released the hold of {amount}: the call cost nothing."
        case TransferKind.EXPIRE:
            return f"Released the hold of {amount} at its expiry: the server never settled the call."
        case TransferKind.DIRECT if transfer.request_id:
            return f"Charged {amount} for a call that was settled after its hold had expired."
        case TransferKind.DIRECT:
            sides = (AccountKind(transfer.debit_account.kind), AccountKind(transfer.credit_account.kind))
            sentence = _SENTENCES.get(sides, f"Moved {{}} from {transfer.debit_account} to {transfer.credit_account}")
            return f"{sentence.format(amount)}: {transfer.reason}"

"""`manage.py close_period --month 2026-10`: compute the invoices of a month, and issue them where asked to."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.invoicing.closing import Author
from billing.invoicing.document import NANO_PER_CENT
from billing.invoicing.months import ClosedMonth, close_month
from common.errors import TollkeeperError
from common.money import format_usd
from keys.models import Customer

_AUTHOR = Author(name="manage.py close_period")


class Command(BaseCommand):
    """Prints a line for each customer; exits with 1 when one of them could not be closed or issued."""

    help = "Compute the invoices of a calendar month, in each customer's time zone. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--month", required=True, help="2026-10")
        parser.add_argument("--customer", metavar="ID", help="Only this customer: cus_...")
        parser.add_argument("--issue", action="store_true", help="Issue the invoices: numbered, and for good.")

    def handle(self, *args: Any, **options: Any) -> None:
        customer = None
        if options["customer"]:
            customer = Customer.objects.filter(public_id=options["customer"]).first()
            if customer is None:
                raise CommandError(f"there is no customer '{options['customer']}'; their ids are in the admin")
        try:
            closed = close_month(options["month"], customer=customer, issues=options["issue"], author=_AUTHOR)
        except TollkeeperError as error:
            raise CommandError(error.message) from None
        for each in closed:
            self.stdout.write(f"{each.customer.public_id}  {each.customer.name}: {_describe(each)}")
        problems = sum(bool(each.problem) for each in closed)
        if problems:
            raise CommandError(f"{problems} of {len(closed)} customers could not be closed")


def _describe(closed: ClosedMonth) -> str:
    if closed.problem:
        return f"NOT closed: {closed.problem}"
    invoice = closed.invoice
    if invoice is None:
        return "nothing to invoice"
    due = format_usd(invoice.due_cents * NANO_PER_CENT)
    return f"{invoice}, {invoice.status}, usage {format_usd(invoice.usage_nanousd)} USD, due {due} USD"

"""Two people who close or issue at the same moment get one invoice a month, and numbers without a gap."""

import threading
from collections.abc import Callable

import pytest
from django.db import connections

from billing.invoice_models import Invoice, InvoiceSeries
from billing.invoicing.closing import close_period
from billing.invoicing.issuing import issue_invoice
from common.errors import TollkeeperError
from tests.invoicing import ANN, DECEMBER, OCTOBER, Buyer, assert_books_are_clean

pytestmark = pytest.mark.django_db(transaction=True)


def run_at_once(*jobs: Callable[[], object]) -> list[object]:
    """Run jobs in threads that start together; return what each returned or raised."""
    results: list[object] = [None] * len(jobs)
    start = threading.Barrier(len(jobs))

    def work(place: int, job: Callable[[], object]) -> None:
        start.wait(10)
        try:
            results[place] = job()
        except TollkeeperError as error:
            results[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(place, job)) for place, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_two_closers_make_one_draft() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    found = run_at_once(*[lambda: close_period(buyer.id, "2026-10", author=ANN, now=DECEMBER)] * 4)
    assert [invoice.pk for invoice in found if isinstance(invoice, Invoice)] == [Invoice.objects.get().pk] * 4
    assert Invoice.objects.get().items.count() == 3


def test_issuers_of_many_customers_take_numbers_without_a_gap() -> None:
    drafts = []
    for _ in range(4):
        buyer = Buyer()
        buyer.use(OCTOBER)
        drafts.append(buyer.close().pk)
    run_at_once(*[lambda pk=pk: issue_invoice(pk, author=ANN, now=DECEMBER) for pk in drafts])
    numbers = Invoice.objects.order_by("sequence").values_list("sequence", flat=True)
    assert list(numbers) == [1, 2, 3, 4]
    assert InvoiceSeries.objects.get().last_number == 4
    assert_books_are_clean()


def test_an_invoice_is_issued_once() -> None:
    buyer = Buyer()
    buyer.use(OCTOBER)
    draft = buyer.close()
    found = run_at_once(*[lambda: issue_invoice(draft.pk, author=ANN, now=DECEMBER)] * 3)
    assert sorted(type(result).__name__ for result in found) == ["Invoice", "InvoiceRefused", "InvoiceRefused"]
    assert InvoiceSeries.objects.get().last_number == 1
    assert_books_are_clean()

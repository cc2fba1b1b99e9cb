"""Numbers of invoices: one series a year, without gaps.

A number is taken in the transaction that issues, under the lock of its counter: whoever fails gives it back by rolling
back, and whoever comes second waits until the first has committed.
"""

from django.conf import settings

from billing.invoice_models import Invoice, InvoiceSeries


def take_number(invoice: Invoice, year: int) -> None:
    """Give an invoice (unsaved) the next number of a year."""
    series = settings.ENVIRONMENT.invoice_series
    counter, _ = InvoiceSeries.objects.get_or_create(name=series, year=year)
    counter = InvoiceSeries.objects.select_for_update().get(pk=counter.pk)
    counter.last_number += 1
    counter.save(update_fields=["last_number"])
    invoice.series, invoice.year, invoice.sequence = series, year, counter.last_number
    invoice.number = f"{series}-{year}-{counter.last_number:05d}"

"""A finance user's way in a browser: from a price to a paid invoice, and to its export."""

import csv

import pytest
from django.contrib.auth.models import Group, User

from billing.invoice_models import Invoice
from billing.invoicing.document import InvoiceState
from billing.models import PriceVersion
from tests.browser.conftest import Browser
from tests.factories import funded_call, make_model
from tests.invoicing import OCTOBER, Buyer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def confirm(browser: Browser) -> None:
    """Send the form that is open, and confirm what is asked."""
    browser.page.click("#form-page button[type=submit]")
    browser.page.click("button:has-text('Confirm')")


def test_a_finance_user_goes_from_a_price_to_a_paid_invoice_and_its_export(browser: Browser) -> None:
    user = User.objects.get(username="ada")
    user.is_superuser = False
    user.save()
    user.groups.add(Group.objects.get(name="Finance"))
    model = make_model("alpha", with_price=False)

    page = browser.open(f"gateway/model/{model.pk}/publish-price/")
    page.fill("#id_input_nanousd", "1")
    page.fill("#id_output_nanousd", "4")
    confirm(browser)
    page.wait_for_selector("text=Published")
    assert PriceVersion.objects.get().model == "alpha"

    buyer = Buyer(call=funded_call(credit_nanousd=0, model="alpha"))
    buyer.use(OCTOBER)

    page = browser.open("billing/invoice/")
    page.click("text=Close a month")
    page.fill("#id_month", "2026-10")
    confirm(browser)
    page.click("#result_list a:has-text('draft')")
    page.wait_for_selector("text=input tokens")

    page.click("a:has-text('Issue')")
    confirm(browser)
    page.wait_for_selector("text=is issued: 5.00 USD are due")

    page.click("a:has-text('Receive payment')")
    assert page.input_value("#id_amount") == "5.00"
    page.fill("#id_reason", "bank statement of 3 November")
    confirm(browser)
    page.wait_for_selector("text=0.00 USD are open")
    page.wait_for_selector("text=The customer paid 5.00 USD of an invoice")
    invoice = Invoice.objects.get()
    assert invoice.status == InvoiceState.PAID

    with page.expect_download() as pdf:
        page.click("a:has-text('PDF')")
    assert pdf.value.suggested_filename == f"{invoice.number}.pdf"
    page = browser.open("billing/exportrun/export/?dataset=invoices")
    with page.expect_download() as download:
        page.click("#form-page button[type=submit]")
    with download.value.path().open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["number"], row["due_usd"]) == (invoice.number, "5.00")
    assert browser.faults == []

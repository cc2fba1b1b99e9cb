"""In the admin: months are closed, invoices issued, paid and void, each after a confirmation, by those who may."""

import json

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from billing.invoice_models import BillingProfile, Invoice
from billing.invoicing.document import InvoiceState
from keys.models import AuditEvent
from tests.invoicing import OCTOBER, Buyer, pay

pytestmark = pytest.mark.django_db

LIST = "/admin/billing/invoice/"
CLOSE = {"month": "2026-10", "customer": "", "_confirmed": "1"}


@pytest.fixture
def buyer() -> Buyer:
    buyer = Buyer()
    buyer.use(OCTOBER)
    return buyer


def act(client: Client, invoice: Invoice, action: str, **data: str) -> Invoice:
    """Submit the form of an action as its page gives it, confirmed."""
    url = f"{LIST}{invoice.pk}/{action}/"
    form = client.get(url).context["form"]
    given = {name: form[name].value() for name in ("reference",) if name in form.fields}
    asked = client.post(url, {**given, **data})
    assert "Due" in [fact.label for fact in asked.context["facts"]]
    answer = client.post(url, {**given, **data, "_confirmed": "1"})
    assert answer.status_code == 302, answer.context["form"].errors
    # A second click does nothing more.
    client.post(url, {**given, **data, "_confirmed": "1"})
    return Invoice.objects.get(pk=invoice.pk)


def test_from_the_close_of_a_month_to_its_paid_invoice(admin_client: Client, buyer: Buyer) -> None:
    asked = admin_client.post(f"{LIST}close/", {"month": "2026-10"})
    assert [fact.label for fact in asked.context["facts"]] == ["Month", "Customers", "Then"]
    assert not Invoice.objects.exists()
    assert admin_client.post(f"{LIST}close/", CLOSE).status_code == 302
    draft = Invoice.objects.get()
    assert str(draft) in admin_client.get(LIST).content.decode()
    issued = act(admin_client, draft, "issue", reason="looked at")
    assert issued.status == InvoiceState.ISSUED
    assert str(issued.number).endswith("-00001")
    part = act(admin_client, issued, "receive-payment", amount="2", reason="bank, line 7")
    assert (part.status, part.paid_cents) == (InvoiceState.ISSUED, 2_00)
    paid = act(admin_client, issued, "receive-payment", amount="3.00", reason="bank, line 9")
    assert (paid.status, paid.paid_cents) == (InvoiceState.PAID, 5_00)
    page = admin_client.get(f"{LIST}{paid.pk}/change/").content.decode()
    for shown in (
        "input tokens",
        "The customer paid 2.00 USD of an invoice: bank, line 7",
        "Due, rounded to cents once",
    ):
        assert shown in page
    names = AuditEvent.objects.filter(action__startswith="invoice.").order_by("id").values_list("action", "actor_name")
    assert list(names) == [(f"invoice.{verb}", "admin") for verb in ("drafted", "issued", "paid", "paid")]


def test_a_void_invoice_leads_to_a_new_draft(admin_client: Client, buyer: Buyer) -> None:
    issued = buyer.issue()
    url = f"{LIST}{issued.pk}/void/"
    assert admin_client.post(url, {"_confirmed": "1"}).context["form"].errors
    data = {"reason": "wrong address", "draws_anew": "on", "_confirmed": "1"}
    answer = admin_client.post(url, data)
    draft = Invoice.objects.get(status=InvoiceState.DRAFT)
    assert (draft.replaces_id, answer["Location"]) == (issued.pk, f"{LIST}{draft.pk}/change/")
    assert Invoice.objects.get(pk=issued.pk).void_reason == "wrong address"
    assert "is not a draft" not in admin_client.get(f"{LIST}{draft.pk}/issue/").content.decode()


def test_what_cannot_be_done_is_said_on_the_page(admin_client: Client, buyer: Buyer) -> None:
    issued = buyer.issue()
    url = f"{LIST}{issued.pk}/receive-payment/"
    reference = {"reference": "r", "reason": "bank", "_confirmed": "1"}
    for amount in ("5.01", "0.001", "0"):
        assert "amount" in admin_client.post(url, {**reference, "amount": amount}).context["form"].errors
    again = admin_client.post(f"{LIST}{issued.pk}/issue/", {"_confirmed": "1"})
    assert "is not a draft" in str(again.context["form"].errors)
    bad = admin_client.post(f"{LIST}close/", {**CLOSE, "month": "2026-13"})
    assert "month" in bad.context["form"].errors


def test_only_what_a_state_allows_is_offered(admin_client: Client, buyer: Buyer) -> None:
    def offered(invoice: Invoice) -> set[str]:
        page = admin_client.get(f"{LIST}{invoice.pk}/change/").content.decode()
        return {action for action in ("issue", "receive-payment", "void", "pdf") if f"/{invoice.pk}/{action}/" in page}

    assert offered(buyer.close()) == {"issue", "pdf"}
    issued = buyer.issue()
    assert offered(issued) == {"receive-payment", "void", "pdf"}
    assert offered(pay(issued)) == {"pdf"}


def test_an_invoice_is_downloaded_as_pdf_and_json(admin_client: Client, buyer: Buyer) -> None:
    issued = buyer.issue()
    pdf = admin_client.get(f"{LIST}{issued.pk}/pdf/")
    assert pdf.content.startswith(b"%PDF-")
    answer = admin_client.get(f"{LIST}{issued.pk}/json/")
    assert answer["content-disposition"] == f'attachment; filename="{issued.number}.json"'
    assert json.loads(answer.content)["due"] == "5.00"


def test_a_profile_is_written_in_percent_and_told_to_the_trail(admin_client: Client, buyer: Buyer) -> None:
    start = admin_client.get(f"/admin/keys/customer/{buyer.id}/billing-profile/")
    assert start["Location"] == f"/admin/billing/billingprofile/add/?customer={buyer.id}"
    data = {"customer": str(buyer.id), "tax_millionths": "8.875", "time_zone": "America/New_York", "payment_days": "14"}
    assert admin_client.post(start["Location"], {**data, "time_zone": "Mars"}).context["errors"]
    assert admin_client.post(start["Location"], data).status_code == 302
    profile = BillingProfile.objects.get()
    assert (profile.tax_millionths, profile.time_zone, profile.payment_days) == (88_750, "America/New_York", 14)
    url = f"/admin/billing/billingprofile/{profile.pk}/change/"
    assert admin_client.get(f"/admin/keys/customer/{buyer.id}/billing-profile/")["Location"] == url
    assert 'value="8.875"' in admin_client.get(url).content.decode()
    assert admin_client.post(url, {**data, "legal_name": "Acme"}).status_code == 302
    assert AuditEvent.objects.filter(object_kind="billing.billingprofile").count() == 2


def test_an_auditor_looks_and_does_nothing(buyer: Buyer) -> None:
    draft = buyer.close()
    user = User.objects.create_user("eve", is_staff=True)
    user.groups.add(Group.objects.get(name="Auditor"))
    client = Client()
    client.force_login(user)
    assert client.get(f"{LIST}{draft.pk}/change/").status_code == 200
    for path in ("close/", f"{draft.pk}/issue/"):
        assert client.post(f"{LIST}{path}", CLOSE).status_code == 403
    assert Invoice.objects.get().status == InvoiceState.DRAFT

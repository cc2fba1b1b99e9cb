"""The admin of customers and keys: who may enter, what is shown once, what asks before it acts."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from common.money import parse_usd
from keys.models import ApiKey, AuditEvent, Customer, CustomerStatus, Plan
from tests.factories import make_customer, make_key, make_plan

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

ADD_KEY = "/admin/keys/apikey/add/"


def open_key_form(client: Client, customer: Customer) -> dict[str, str]:
    page = client.get(f"{ADD_KEY}?customer={customer.pk}")
    form = page.context["form"]
    return {
        "form_id": form["form_id"].value(),
        "customer": str(customer.pk),
        "name": "website",
        "environment": "live",
        "scopes": "chat:write",
        "allowed_models": "gpt-*\nllama",
        "requests_per_minute": "5",
        "spend_per_day_nanousd": "1.5",
    }


@pytest.mark.parametrize(
    "path",
    [
        "",
        "keys/customer/",
        "keys/apikey/",
        "keys/apikey/add/",
        "keys/plan/",
        "billing/transfer/",
        "billing/usagerecord/",
        "billing/exportrun/export/",
        "billing/usagerecord/export-listed/",
        "gateway/upstream/",
    ],
)
def test_anonymous_visitors_are_sent_to_the_login(client: Client, path: str) -> None:
    answer = client.get(f"/admin/{path}")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_staff_without_permissions_can_open_nothing_and_do_nothing(client: Client) -> None:
    customer = make_customer()
    key = make_key(customer).key
    client.force_login(User.objects.create_user("intern", is_staff=True))
    for path in (
        "keys/apikey/add/",
        f"keys/apikey/{key.pk}/revoke/",
        f"keys/customer/{customer.pk}/suspend/",
        f"keys/customer/{customer.pk}/grant-credit/",
        "billing/exportrun/export/",
        "billing/usagerecord/export-listed/",
    ):
        assert client.post(f"/admin/{path}", {}).status_code == 403, path
    assert "cards" not in client.get("/admin/").context


def test_a_key_is_issued_with_what_was_filled_in(admin_client: Client) -> None:
    customer = make_customer()
    answer = admin_client.post(ADD_KEY, open_key_form(admin_client, customer))
    assert answer.status_code == 200
    key = ApiKey.objects.get()
    assert (key.customer_id, key.name, key.created_by) == (customer.pk, "website", "admin")
    assert (key.scopes, key.allowed_models) == (["chat:write"], ["gpt-*", "llama"])
    assert (key.requests_per_minute, key.spend_per_day_nanousd) == (5, parse_usd("1.5"))


def test_the_secret_is_shown_once_and_kept_nowhere(admin_client: Client) -> None:
    customer = make_customer()
    data = open_key_form(admin_client, customer)
    first = admin_client.post(ADD_KEY, data)
    secret = first.context["secret"]
    assert secret in first.content.decode()
    assert "no-store" in first["Cache-Control"]

    again = admin_client.post(ADD_KEY, data, follow=True)
    assert secret not in again.content.decode()
    assert ApiKey.objects.count() == 1

    key = ApiKey.objects.get()
    pages = ("keys/apikey/", f"keys/apikey/{key.pk}/change/", f"keys/apikey/{key.pk}/history/", "keys/auditevent/")
    for page in pages:
        text = admin_client.get(f"/admin/{page}", follow=True).content.decode()
        assert secret not in text
        assert key.secret_hmac not in text
    assert secret not in str(dict(admin_client.session))
    trail = str(list(AuditEvent.objects.values()))
    assert "api_key.issued" in trail
    assert secret not in trail
    assert key.secret_hmac not in trail


def test_a_form_that_was_never_opened_issues_nothing(admin_client: Client) -> None:
    data = {**open_key_form(admin_client, make_customer()), "form_id": "made-up"}
    assert admin_client.post(ADD_KEY, data).status_code == 302
    assert not ApiKey.objects.exists()


def test_a_domain_error_is_shown_at_its_field_and_the_form_stays_usable(admin_client: Client) -> None:
    data = {**open_key_form(admin_client, make_customer()), "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    answer = admin_client.post(ADD_KEY, data)
    assert answer.context["form"].errors["expires_at"] == ["The expiry is in the past."]
    data |= {"expires_at_0": "", "expires_at_1": ""}
    assert "secret" in admin_client.post(ADD_KEY, data).context


def test_revoking_needs_a_reason_and_is_final(admin_client: Client) -> None:
    key = make_key().key
    url = f"/admin/keys/apikey/{key.pk}/revoke/"
    assert admin_client.post(url, {"reason": " "}).status_code == 200
    key.refresh_from_db()
    assert key.revoked_at is None

    assert admin_client.post(url, {"reason": "leaked"}).status_code == 302
    key.refresh_from_db()
    assert key.revoked_reason == "leaked"
    page = admin_client.get(f"/admin/keys/apikey/{key.pk}/change/")
    assert not page.context["has_change_permission"]
    assert "actions_detail" in page.context
    assert page.context["actions_detail"] == []


def test_saving_an_edit_does_not_undo_a_revocation_made_meanwhile(admin_client: Client, monkeypatch: Any) -> None:
    key = make_key().key
    url = f"/admin/keys/apikey/{key.pk}/change/"
    data = {"name": "renamed", "scopes": key.scopes, "allowed_models": ""}
    save = ApiKey.save

    def revoke_and_save(self: ApiKey, *args: Any, **kwargs: Any) -> None:
        ApiKey.objects.filter(pk=self.pk).update(revoked_at=self.created_at, revoked_reason="meanwhile")
        save(self, *args, **kwargs)

    monkeypatch.setattr(ApiKey, "save", revoke_and_save)
    assert admin_client.post(url, data).status_code == 302
    key.refresh_from_db()
    assert (key.name, key.revoked_reason) == ("renamed", "meanwhile")


@pytest.mark.parametrize(
    ("state", "expected"), [("active", "live one"), ("expired", "old one"), ("revoked", "bad one")]
)
def test_the_list_filters_by_state(admin_client: Client, state: str, expected: str) -> None:
    customer = make_customer()
    make_key(customer, name="live one")
    old, bad = (make_key(customer, name=name).key for name in ("old one", "bad one"))
    ApiKey.objects.filter(pk=old.pk).update(expires_at="2020-01-01T00:00:00Z")
    ApiKey.objects.filter(pk=bad.pk).update(revoked_at="2020-01-01T00:00:00Z", revoked_reason="x")
    rows = admin_client.get(f"/admin/keys/apikey/?state={state}").context["cl"].result_list
    assert [key.name for key in rows] == [expected]


def test_a_key_is_found_by_the_prefix_that_pages_show(admin_client: Client) -> None:
    customer = make_customer()
    key, _ = make_key(customer).key, make_key(customer)
    rows = admin_client.get("/admin/keys/apikey/", {"q": f"{key.prefix}…"}).context["cl"].result_list
    assert [row.pk for row in rows] == [key.pk]


def test_a_customer_is_created_with_limits_in_plain_decimals(admin_client: Client) -> None:
    plan = make_plan()
    data = {"name": "Acme", "plan": plan.pk, "email": "", "note": "", "spend_per_month_nanousd": "0.000000001"}
    answer = admin_client.post("/admin/keys/customer/add/", data)
    assert answer.status_code == 302
    customer = Customer.objects.get()
    assert customer.public_id.startswith("cus_")
    assert customer.spend_per_month_nanousd == 1
    page = admin_client.get(f"/admin/keys/customer/{customer.pk}/change/").content.decode()
    assert 'value="0.000000001"' in page


@pytest.mark.parametrize("text", ["1e3", "0.0000000001", "abc", "-1"])
def test_amounts_that_are_no_plain_decimals_are_refused(admin_client: Client, text: str) -> None:
    data = {"name": "Gold", "slug": "gold", "spend_per_day_nanousd": text}
    answer = admin_client.post("/admin/keys/plan/add/", data)
    assert "spend_per_day_nanousd" in answer.context["adminform"].form.errors
    assert not Plan.objects.exists()


def test_suspending_asks_first_and_can_be_taken_back(admin_client: Client) -> None:
    customer = make_customer()
    base = f"/admin/keys/customer/{customer.pk}"
    admin_client.get(f"{base}/suspend/")
    customer.refresh_from_db()
    assert customer.status == CustomerStatus.ACTIVE
    admin_client.post(f"{base}/suspend/", {"_act": "1"})
    customer.refresh_from_db()
    assert customer.status == CustomerStatus.SUSPENDED
    offered = [a["title"] for a in admin_client.get(f"{base}/change/").context["actions_detail"]]
    assert "Reactivate" in offered
    assert "Suspend" not in offered
    admin_client.post(f"{base}/reactivate/", {"_act": "1"})
    customer.refresh_from_db()
    assert customer.status == CustomerStatus.ACTIVE


def test_customers_and_keys_cannot_be_deleted(admin_client: Client) -> None:
    key = make_key().key
    assert admin_client.post(f"/admin/keys/apikey/{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"/admin/keys/customer/{key.customer_id}/delete/", {"post": "yes"}).status_code == 403

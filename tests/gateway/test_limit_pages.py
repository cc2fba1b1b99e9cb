"""The admin's pages about limits: live bars, raising for a time, and why a call was refused."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from gateway.models import Refusal
from keys.issuing import rotate_key
from keys.models import ApiKey, AuditEvent, Customer, LimitRaise
from tests.admitting import run
from tests.factories import FundedCall, funded_call, make_customer, make_key, make_plan, make_raise

pytestmark = pytest.mark.django_db

FORM = {
    "limit_name": "requests_per_minute",
    "value": "900",
    "ends_at_0": "2099-12-01",
    "ends_at_1": "12:00:00",
    "reason": "launch week",
}


def page_of(row: Customer | ApiKey | Refusal, rest: str = "change/") -> str:
    return f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/{rest}"


@pytest.fixture
def customer() -> Customer:
    return make_customer(plan=make_plan(requests_per_minute=600, spend_per_day_nanousd=2_000_000_000))


@pytest.mark.parametrize("is_key", [False, True])
def test_the_page_shows_each_limit_its_source_and_its_fill(
    admin_client: Client, customer: Customer, is_key: bool
) -> None:
    row = make_key(customer, limits={"concurrency": 7}).key if is_key else customer
    for path in (page_of(row), page_of(row, "limits/")):
        text = admin_client.get(path).content.decode()
        assert 'role="meter"' in text, path
        assert "plan Plan" in text
        assert ("Calls in flight</td>" in text) is is_key
        assert text.count('id="limits"') == 1


def test_the_page_of_a_made_key_shows_its_makers_limits_and_links_its_relatives(
    admin_client: Client, customer: Customer
) -> None:
    maker = make_key(customer, limits={"concurrency": 7}).key
    made = make_key(customer, maker_id=maker.pk).key
    successor = rotate_key(key_id=made.pk, overlap=timedelta(hours=1), reason="x", author="tests").key
    text = admin_client.get(page_of(successor)).content.decode()
    assert f"maker {maker.prefix}…" in text
    for relative in (maker, made):
        assert page_of(relative) in text
    assert page_of(successor) in admin_client.get(page_of(maker)).content.decode()


def test_a_limit_is_raised_and_the_raise_ended_in_the_browser(admin_client: Client, customer: Customer) -> None:
    url = page_of(customer, "raise-limit/")
    assert "Chat requests per minute: now 600" in admin_client.get(url).content.decode()
    assert admin_client.post(url, FORM).status_code == 302
    raised = LimitRaise.objects.get()
    assert (raised.value, raised.created_by, raised.reason) == (900, "admin", "launch week")
    page = admin_client.get(page_of(customer)).content.decode()
    assert "raised until 2099-12-01 12:00 UTC" in page
    end = page_of(customer, f"end-raise/{raised.pk}/")
    assert end in page
    assert admin_client.post(end, {}).status_code == 302
    assert "raised until" not in admin_client.get(page_of(customer, "limits/")).content.decode()
    actions = list(AuditEvent.objects.filter(action__contains="raise").order_by("id").values_list("action", flat=True))
    assert actions == ["customer.limit_raised", "customer.raise_ended"]


def test_money_is_raised_as_a_plain_decimal(admin_client: Client, customer: Customer) -> None:
    form = {**FORM, "limit_name": "spend_per_day_nanousd", "value": "12.50"}
    assert admin_client.post(page_of(customer, "raise-limit/"), form).status_code == 302
    assert LimitRaise.objects.get().value == 12_500_000_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"value": "600"}, "has 600 already"),
        ({"value": "many"}, "whole number"),
        ({"value": "-5"}, "whole number"),
        ({"limit_name": "spend_per_day_nanousd", "value": "1.0000000001"}, "decimal"),
        ({"ends_at_0": "2001-01-01"}, "lies in the past"),
        ({"reason": ""}, "required"),
        ({"limit_name": "concurrency"}, "not one of the available choices"),
    ],
)
def test_a_wrong_form_is_told_at_its_field(
    admin_client: Client, customer: Customer, changes: dict[str, str], said: str
) -> None:
    answer = admin_client.post(page_of(customer, "raise-limit/"), {**FORM, **changes})
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not LimitRaise.objects.exists()


def test_who_may_not_change_a_customer_raises_nothing(client: Client, customer: Customer) -> None:
    client.force_login(User.objects.create_user("intern", is_staff=True))
    raised = make_raise(customer, "requests_per_minute", 601)
    for path in ("raise-limit/", f"end-raise/{raised.pk}/"):
        assert client.post(page_of(customer, path), FORM).status_code == 403
    assert client.get(page_of(customer, "limits/")).status_code == 403


def test_a_raise_of_another_owner_is_not_found(admin_client: Client, customer: Customer) -> None:
    raised = make_raise(make_customer(limits={"concurrency": 1}), "concurrency", 5)
    assert admin_client.post(page_of(customer, f"end-raise/{raised.pk}/"), {}).status_code == 404


# ---- why was this refused?


@pytest.fixture
def refused() -> FundedCall:
    call = funded_call(key_limits={"spend_per_day_nanousd": 5, "concurrency": 3})
    run(call.admit(amount_nanousd=6, request_id="req_refused"))
    return call


def test_a_request_id_leads_to_what_was_said_and_every_limit(admin_client: Client, refused: FundedCall) -> None:
    answer: Any = admin_client.get("/admin/gateway/refusal/", {"q": " req_refused "}, follow=True)
    assert answer.redirect_chain == [(page_of(Refusal.objects.get()), 302)]
    text = answer.content.decode()
    for words in ("402 budget_too_small", "0.000000005", "Waiting does not help", "set on the key", "1 refused"):
        assert words in text, words
    assert "concurrency" in text


def test_a_call_that_ran_is_not_taken_for_refused(admin_client: Client) -> None:
    call = funded_call()
    run(call.admit(request_id="req_ran"))
    run(call.settle("req_ran"))
    text = admin_client.get("/admin/gateway/refusal/", {"q": "req_ran"}).content.decode()
    assert "This call was not refused" in text


def test_an_unknown_id_is_explained(admin_client: Client, refused: FundedCall) -> None:
    text = admin_client.get("/admin/gateway/refusal/", {"q": "req_unknown"}).content.decode()
    assert "No refusal with the id" in text

"""The admin in a browser: each page opens cleanly, and the two flows that people do every day work."""

import pytest

from billing.accounts import get_balance
from billing.models import Transfer, TransferKind, UsageRecord
from billing.tokens import TokenCounts
from common.clock import SYSTEM_CLOCK
from common.money import parse_usd
from gateway.models import Deployment, Worker
from keys.issuing import revoke_key
from keys.models import ApiKey
from tests.admitting import make_context, run
from tests.browser.conftest import Browser
from tests.factories import FundedCall, funded_call, make_customer, make_key, make_model

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def make_calls() -> FundedCall:
    """Leave a settled call, one in flight, a revoked key and a model without a price."""
    call = funded_call()
    context = make_context(lease_seconds=600)
    done, flying = call.admit(), call.admit()
    run(done, flying, context=context)
    tokens = TokenCounts(input=100, output=225)
    run(call.settle(done.request_id, tokens=tokens, started_us=SYSTEM_CLOCK.now_us()), context=context)
    make_model("unpriced", with_price=False)
    revoke_key(key_id=make_key(make_customer(credit_usd="0")).key.pk, reason="leaked")
    return call


def test_every_page_opens_without_a_fault(browser: Browser) -> None:
    call = make_calls()
    usage, worker = UsageRecord.objects.get(), Worker.objects.order_by("id")[0]
    posted = Transfer.objects.get(kind=TransferKind.POST)
    deployment = Deployment.objects.select_related("model").order_by("id")[0]
    revoked = ApiKey.objects.get(revoked_at__isnull=False)
    key_id, customer_id = call.principal.key_id, call.customer_id
    pages = {
        "": "#dashboard canvas",
        "keys/customer/": "#result_list",
        "keys/customer/add/": "#id_spend_per_day_nanousd",
        f"keys/customer/{customer_id}/change/": "#balance",
        f"keys/customer/{customer_id}/grant-credit/": "#id_amount",
        f"keys/customer/{customer_id}/suspend/": "#form-page",
        "keys/plan/": "#result_list",
        "keys/plan/add/": "#id_requests_per_minute",
        "keys/apikey/": "#result_list",
        "keys/apikey/add/": "#id_scopes_0",
        f"keys/apikey/{key_id}/change/": "#id_scopes_0",
        f"keys/apikey/{revoked.pk}/change/": "text=leaked",
        f"keys/apikey/{key_id}/revoke/": "#id_reason",
        "gateway/model/": "text=No price in force",
        "gateway/model/add/": "#id_context_window",
        f"gateway/model/{deployment.model_id}/change/": "#id_deployments-0-upstream",
        "gateway/upstream/": "#result_list",
        "gateway/upstream/add/": "#id_secret",
        f"gateway/upstream/{deployment.upstream_id}/change/": "#id_secret",
        "billing/exportrun/": "text=Export a period",
        "billing/exportrun/export/": "#id_first_day",
        "billing/invoice/": "text=Close a month",
        "billing/invoice/close/": "#id_month",
        "billing/billingprofile/": "#changelist",
        "billing/billingprofile/add/": "#id_time_zone",
        "billing/exportschedule/": "#changelist",
        "billing/exportschedule/add/": "#id_destination",
        "billing/priceversion/": "#result_list",
        "billing/priceversion/add/": "#id_input_nanousd",
        f"billing/priceversion/{usage.price_version_id}/change/": "text=USD per 1M tokens",
        "billing/priceversion/try/": "#try-price",
        "billing/priceterms/": "#changelist",
        "billing/priceterms/add/": "#id_markup",
        "billing/usagerecord/spend/": "#spend-chart canvas",
        "billing/usagerecord/": "#result_list",
        f"billing/usagerecord/{usage.pk}/change/": "#usage-detail",
        "billing/transfer/": "#result_list",
        f"billing/transfer/{posted.pk}/change/": "text=Charged",
        "billing/account/": "#result_list",
        f"billing/account/{posted.debit_account_id}/change/": "text=Available (USD)",
        "billing/hold/": "#result_list",
        "gateway/worker/": "#result_list",
        f"gateway/worker/{worker.pk}/change/": "text=Lease until",
        "auth/user/": "#result_list",
        "auth/user/add/": "#id_username",
        "auth/group/": "#changelist",
        "second-factor/": "#totp-secret",
        "keys/auditevent/": "#changelist",
    }
    for path, selector in pages.items():
        page = browser.open(path)
        page.wait_for_selector(selector, timeout=10_000)
        assert browser.faults == [], path


@pytest.mark.parametrize("width", [1440, 1100])
def test_the_crumbs_have_room_beside_the_actions(browser: Browser, width: int) -> None:
    customer = make_customer(name="Northwind Traders International")
    browser.page.set_viewport_size({"width": width, "height": 800})
    page = browser.open(f"keys/customer/{customer.pk}/change/")
    shown = page.locator("#header-inner h1 a:visible")
    assert shown.all_inner_texts() == ["Customers", "Northwind Traders International"]
    assert all(crumb.evaluate("crumb => crumb.scrollWidth <= crumb.clientWidth") for crumb in shown.all()), (
        "a crumb is cut off"
    )


def test_an_empty_platform_leads_to_the_first_call(browser: Browser) -> None:
    page = browser.open("")
    assert page.locator("#first-steps li").count() == 7
    page.click("#first-steps a >> nth=0")
    page.wait_for_selector("#id_base_url")
    assert browser.faults == []


def test_credit_is_granted_after_a_confirmation(browser: Browser) -> None:
    customer = make_customer(name="Acme", credit_usd="0")
    page = browser.open(f"keys/customer/{customer.pk}/change/")
    page.click("text=Grant credit")
    page.fill("#id_amount", "1e3")
    page.fill("#id_reason", "invoice 7 paid")
    page.click("#form-page button[type=submit]")
    page.wait_for_selector("text=is not a plain decimal amount")
    page.fill("#id_amount", "12.50")
    page.click("#form-page button[type=submit]")
    page.wait_for_selector("text=12.50 USD")
    assert get_balance(customer.pk).posted_nanousd == 0
    page.click("text=Confirm: grant credit")
    page.wait_for_selector("text=12.50 USD for Acme: booked")
    assert "12.50 USD" in page.locator("#balance").inner_text()
    assert get_balance(customer.pk).posted_nanousd == parse_usd("12.5")
    assert browser.faults == []


def test_a_secret_is_shown_once_and_copied(browser: Browser) -> None:
    make_model("alpha")
    customer = make_customer(name="Acme")
    page = browser.open(f"keys/customer/{customer.pk}/change/")
    page.click("text=New API key")
    page.fill("#id_name", "website")
    page.click("text=Issue key")
    secret = page.input_value("#secret")
    assert secret.startswith("tk_live_")
    assert secret in page.inner_text("#curl")
    assert '"model": "alpha"' in page.inner_text("#curl")
    page.click("#copy-secret")
    page.wait_for_selector("#copy-secret:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == secret

    key = ApiKey.objects.get()
    assert page.url.endswith(f"/keys/apikey/{key.pk}/change/")
    page.reload()
    page.wait_for_selector("#id_name")
    assert secret not in page.content()
    page.go_back()
    assert secret not in page.content()
    assert ApiKey.objects.count() == 1
    assert browser.faults == []


def test_usage_is_filtered_by_a_customer_that_is_typed(browser: Browser) -> None:
    make_calls()
    customer = UsageRecord.objects.select_related("customer").get().customer
    page = browser.open("billing/usagerecord/")
    page.click("text=Filters")
    page.click("#changelist-filter .select2-selection >> nth=3")
    page.keyboard.type(customer.name)
    page.click(f".select2-results__option:has-text('{customer.name}')")
    page.click("#changelist-filter button[type=submit]")
    page.wait_for_selector("#result_list")
    assert f"customer__id__exact={customer.pk}" in page.url
    assert browser.faults == []

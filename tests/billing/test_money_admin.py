"""The admin of money: the ledger only shows, credit is granted with reason and author, prices are only published."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.accounts import get_balance
from billing.explaining import explain_cost, explain_outcome
from billing.models import Account, PriceVersion, Transfer, UsageRecord
from billing.pricing import get_price
from billing.tokens import TokenCounts
from common.ids import make_id
from common.money import parse_usd
from tests.factories import funded_call, make_customer, make_key, make_model, make_plan

pytestmark = pytest.mark.django_db

LEDGER_PAGES = ["billing/transfer", "billing/usagerecord", "billing/account", "billing/hold", "gateway/worker"]


def make_usage(*, tokens: TokenCounts | None = None, **columns: object) -> UsageRecord:
    """Write one record of a new customer, as a settlement would."""
    call = funded_call()
    counts = tokens or TokenCounts(input=1_000, output=250)
    cost = get_price(call.price.version_id).rates.cost(counts)
    now = datetime.now(UTC)
    return UsageRecord.objects.create(
        **{
            "request_id": make_id("req"),
            "customer_id": call.customer_id,
            "api_key_id": call.principal.key_id,
            "operation": "chat.completions",
            "model": call.model,
            "upstream": "upstream",
            "price_version_id": call.price.version_id,
            "status": "completed",
            "source": "provider",
            "is_stream": True,
            "input_tokens": counts.input,
            "cache_read_tokens": counts.cache_read,
            "output_tokens": counts.output,
            "cost_nanousd": cost,
            "charged_nanousd": cost,
            "started_at": now,
            "settled_at": now,
            **columns,
        }
    )


@pytest.mark.parametrize("page", LEDGER_PAGES)
def test_nobody_may_add_change_or_delete_here(admin_client: Client, page: str) -> None:
    make_customer()
    assert admin_client.get(f"/admin/{page}/").status_code == 200
    assert admin_client.post(f"/admin/{page}/add/", {}).status_code == 403
    account = Transfer.objects.get().credit_account_id
    pk = {"billing/transfer": Transfer.objects.get().pk, "billing/account": account}.get(page)
    if pk is not None:
        assert admin_client.post(f"/admin/{page}/{pk}/change/", {"amount_nanousd": 1}).status_code == 403
        assert admin_client.post(f"/admin/{page}/{pk}/delete/", {"post": "yes"}).status_code == 403


def test_credit_is_booked_after_a_confirmation_with_reason_and_author(admin_client: Client) -> None:
    customer = make_customer(credit_usd="0")
    url = f"/admin/keys/customer/{customer.pk}/grant-credit/"
    reference = admin_client.get(url).context["form"]["reference"].value()
    data = {"reference": reference, "amount": "12.345678901", "reason": "invoice 7 paid"}

    asked = admin_client.post(url, data)
    assert [fact.label for fact in asked.context["facts"]][:3] == ["Customer", "Grant", "Expires"]
    assert not Transfer.objects.exists()

    assert admin_client.post(url, {**data, "_confirmed": "1"}).status_code == 302
    transfer = Transfer.objects.get()
    assert (transfer.amount_nanousd, transfer.reason, transfer.author) == (12_345_678_901, "invoice 7 paid", "admin")
    assert get_balance(customer.pk).available_nanousd == 12_345_678_901


def test_confirming_twice_books_once(admin_client: Client) -> None:
    customer = make_customer(credit_usd="0")
    url = f"/admin/keys/customer/{customer.pk}/grant-credit/"
    reference = admin_client.get(url).context["form"]["reference"].value()
    data = {"reference": reference, "amount": "5", "reason": "goodwill", "_confirmed": "1"}
    admin_client.post(url, data)
    admin_client.post(url, data)
    assert get_balance(customer.pk).posted_nanousd == parse_usd("5")


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount", "0"), ("amount", "-1"), ("amount", "1e3"), ("amount", "0.0000000001"), ("amount", ""), ("reason", " ")],
)
def test_credit_without_amount_or_reason_is_refused_at_the_field(admin_client: Client, field: str, value: str) -> None:
    customer = make_customer(credit_usd="0")
    url = f"/admin/keys/customer/{customer.pk}/grant-credit/"
    data = {"reference": "r", "amount": "5", "reason": "x", "_confirmed": "1", field: value}
    answer = admin_client.post(url, data)
    assert field in answer.context["form"].errors
    assert not Transfer.objects.exists()


def test_balances_of_a_page_take_one_query(admin_client: Client) -> None:
    plan = make_plan()
    for _ in range(3):
        make_customer(plan=plan)
    admin_client.get("/admin/keys/customer/")
    with CaptureQueriesContext(
        connection,
    ) as few:
        admin_client.get("/admin/keys/customer/")
    for _ in range(5):
        make_customer(plan=plan)
    with CaptureQueriesContext(connection) as many:
        admin_client.get("/admin/keys/customer/")
    assert len(few) == len(many)


@pytest.mark.parametrize("page", ["billing/usagerecord", "billing/transfer"])
def test_large_tables_are_never_counted_to_the_end(admin_client: Client, page: str) -> None:
    make_usage()
    with CaptureQueriesContext(connection) as queries:
        assert admin_client.get(f"/admin/{page}/?within=all&_facets=True").status_code == 200
    counts = [q["sql"] for q in queries if "COUNT(" in q["sql"].upper() and "billing_" in q["sql"]]
    assert all("LIMIT 10001" in sql for sql in counts)


def test_usage_is_found_by_request_id_key_prefix_and_customer(admin_client: Client) -> None:
    wanted, other = make_usage(), make_usage()
    for term in (wanted.request_id, f"{wanted.api_key.prefix}…", wanted.customer.name):
        rows = admin_client.get("/admin/billing/usagerecord/", {"q": term}).context["cl"].result_list
        assert [row.pk for row in rows] == [wanted.pk], term
    assert other.request_id


def test_usage_shows_the_last_days_unless_told(admin_client: Client) -> None:
    old = make_usage(started_at=datetime.now(UTC) - timedelta(days=20))
    page = "/admin/billing/usagerecord/"
    assert admin_client.get(page).context["cl"].result_list == []
    assert [r.pk for r in admin_client.get(f"{page}?within=30d").context["cl"].result_list] == [old.pk]
    day = f"{old.started_at:%Y-%m-%d}"
    after = f"{old.started_at + timedelta(days=1):%Y-%m-%d}"
    ranged = (
        f"{page}?within=7d&started_at_from_0={day}&started_at_from_1=00:00:00&started_at_to_0={after}&started_at_to_1="
    )
    assert [r.pk for r in admin_client.get(ranged).context["cl"].result_list] == [old.pk]
    assert admin_client.get(page, {"q": old.request_id}).context["cl"].result_list


def test_the_page_of_a_call_explains_its_cost_exactly(admin_client: Client) -> None:
    record = make_usage(tokens=TokenCounts(input=1, cache_read=2, output=3))
    cost = explain_cost(record)
    (attempt,) = cost.attempts
    assert (attempt.lines[0].label, attempt.lines[0].tokens) == ("Input", 1)
    assert cost.rounded_nanousd == record.cost_nanousd == 15_000
    assert attempt.exact_usd == "0.000015"
    text = admin_client.get(f"/admin/billing/usagerecord/{record.pk}/change/").content.decode()
    assert "USD per 1M tokens" in text
    assert "The call ran to its end." in text


def test_every_known_flag_is_explained_in_words() -> None:
    flags = "server_died,late_settlement,usage_parts_exceed_total,usage_total_mismatch,cost_exceeds_hold"
    sentences = explain_outcome(make_usage(flags=flags))
    assert not [s for s in sentences if s.startswith("Flag:")]
    assert explain_outcome(make_usage(flags="new_one"))[-1] == "Flag: new_one."


def test_the_listed_usage_is_exported_exactly_and_without_formulas(admin_client: Client) -> None:
    record = make_usage(tokens=TokenCounts(input=1, output=1))
    record.customer.name = "=HYPERLINK(1)"
    record.customer.save()
    make_usage(status="failed")
    answer = admin_client.get("/admin/billing/usagerecord/export-listed/?status__exact=completed")
    lines = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))
    assert [line["request_id"] for line in lines] == [record.request_id]
    assert lines[0]["charged_usd"] == "0.000005"
    assert lines[0]["customer"] == "'=HYPERLINK(1)"


def test_a_price_is_published_after_a_comparison_and_never_edited(admin_client: Client) -> None:
    model = make_model(input_usd="1", output_usd="4")
    url = "/admin/billing/priceversion/add/"
    data = {
        "model": model.name,
        "effective_from_0": "",
        "effective_from_1": "",
        "input_nanousd": "0.15",
        "output_nanousd": "0.6",
        "reason": "cheaper",
    }
    asked = admin_client.post(url, data)
    assert "0.15 USD (was 1.00)" in [fact.value for fact in asked.context["facts"]]
    assert PriceVersion.objects.count() == 1

    assert admin_client.post(url, {**data, "_confirmed": "1"}).status_code == 302
    version = PriceVersion.objects.latest("id")
    assert (version.input_nanousd, version.cache_read_nanousd, version.author) == (150_000_000, 150_000_000, "admin")
    base = f"/admin/billing/priceversion/{version.pk}"
    assert admin_client.get(f"{base}/change/").status_code == 200
    assert admin_client.post(f"{base}/change/", {"input_nanousd": "0"}).status_code == 403
    assert admin_client.post(f"{base}/delete/", {"post": "yes"}).status_code == 403


def test_the_dashboard_leads_a_newcomer_and_shows_what_needs_attention(admin_client: Client) -> None:
    empty = admin_client.get("/admin/").context
    assert [step.is_done for step in empty["steps"]] == [False] * 7
    assert "No call in the last 30 days" in admin_client.get("/admin/").content.decode()

    make_model("unpriced", with_price=False)
    customer = make_customer(credit_usd="0.5")
    make_key(customer)
    make_usage(status="failed", error_code="upstream_timeout", upstream="slow-one")
    page = admin_client.get("/admin/")
    text = page.content.decode()
    assert "no price in force" in text
    assert "slow-one" in text
    assert "0.50 USD available" in text
    cards = {card.label: card.value for card in page.context["cards"]}
    assert cards["Calls today"] == "1"
    assert cards["Error rate today"] == "100.0 %"


def test_the_ledger_of_an_account_is_its_own(admin_client: Client) -> None:
    make_usage()
    account = Account.objects.get(kind="customer")
    other = make_customer(credit_usd="77")
    page = admin_client.get(f"/admin/billing/transfer/?party={account.pk}&within=all")
    listed = {transfer.pk for transfer in page.context["cl"].result_list}
    assert listed == set(Transfer.objects.exclude(credit_account__customer=other).values_list("pk", flat=True))
    assert page.context["cl"].count_text == str(len(listed))

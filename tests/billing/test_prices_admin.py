"""The admin of prices: tiers and batches are published as shown, terms change hands, a trial writes nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from billing.bands import PriceBand, add_batch_discount, complete_rates
from billing.models import PriceTerms, PriceVersion, UsageRecord
from billing.pricing import get_price, publish_price
from billing.rates import Processing
from billing.tokens import TokenCounts
from tests.billing.test_money_admin import make_usage
from tests.factories import make_customer, make_model, make_price

pytestmark = pytest.mark.django_db

USD = 10**9
ADD_PRICE = "/admin/billing/priceversion/add/"
ADD_TERMS = "/admin/billing/priceterms/add/"
TRY = "/admin/billing/priceversion/try/"
SPEND = "/admin/billing/usagerecord/spend/"


def test_a_tier_and_a_discount_of_batches_are_published_as_they_were_shown(admin_client: Client) -> None:
    record = make_usage(tokens=TokenCounts(input=1_000_000, output=0))
    data = {
        "model": record.model,
        "input_nanousd": "2",
        "output_nanousd": "4",
        "long_above": "200000",
        "long_input_nanousd": "3",
        "long_output_nanousd": "6",
        "batch_discount": "12.5",
    }
    asked = admin_client.post(ADD_PRICE, data)
    facts = {fact.label: str(fact.value) for fact in asked.context["facts"]}
    assert facts["Input"] == "2.00 USD (was 1.00)"
    assert facts["Input; above 200,000 input tokens"] == "3.00 USD"
    assert facts["Output; batch; above 200,000 input tokens"] == "5.25 USD"
    # A million tokens of input is above the tier.
    assert facts["The last 7 days would have cost"] == "3.00 USD instead of 1.00 USD (+2.00)"
    assert PriceVersion.objects.filter(model=record.model).count() == 1
    assert admin_client.post(ADD_PRICE, {**data, "_confirmed": "1"}).status_code == 302
    price = get_price(PriceVersion.objects.latest("id").pk)
    assert price.table.rates_for(200_001).output == 6 * USD
    assert price.table.rates_for(1, Processing.BATCH).input == 1_750_000_000
    page = admin_client.get(f"/admin/billing/priceversion/{price.version_id}/change/").content.decode()
    assert "above 200,000" in page
    assert "5.25" in page


def test_the_form_begins_with_the_price_in_force_so_that_one_rate_can_be_changed(admin_client: Client) -> None:
    model = make_model(with_price=False)
    base = complete_rates({"input_nanousd": 2 * USD, "output_nanousd": 8 * USD, "provider_input_nanousd": USD})
    tier = PriceBand(above_input_tokens=9, rates={"input_nanousd": 4 * USD, "output_nanousd": 8 * USD})
    bands = add_batch_discount(base, [tier], discount=5_000, provider_discount=0)
    publish_price(model=model.name, rates=base, bands=bands, author="t")
    form = admin_client.get(ADD_PRICE, {"model": model.name}).context["form"]
    shown = {name: form[name].value() for name in form.fields if form[name].value() not in (None, "")}
    asked = admin_client.post(ADD_PRICE, {**shown, "output_nanousd": "10", "cache_read_nanousd": "0.1"})
    facts = {fact.label: str(fact.value) for fact in asked.context["facts"]}
    assert set(facts) == {
        "Model",
        "In force from",
        "Output",
        "Input read from cache",
        "Output; batch",
        "Input read from cache; batch",
        "The last 7 days would have cost",
    }
    assert facts["Input read from cache; batch"] == "0.05 USD (was 1.00)"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"long_above": "5"}, "long_input_nanousd"),
        ({"long_input_nanousd": "5"}, "long_above"),
        ({"batch_discount": "101"}, "batch_discount"),
        ({"batch_discount": "a"}, "batch_discount"),
        ({"input_nanousd": "20000"}, "input_nanousd"),
        ({"model": "no-such-model"}, "model"),
    ],
)
def test_a_price_that_cannot_be_is_refused_at_its_field(
    admin_client: Client, fields: dict[str, str], place: str
) -> None:
    model = make_model(with_price=False)
    answer = admin_client.post(
        ADD_PRICE, {"model": model.name, "input_nanousd": "1", "output_nanousd": "1", **fields, "_confirmed": "1"}
    )
    assert answer.status_code == 200
    assert place in answer.context["form"].errors
    assert not PriceVersion.objects.exists()


def test_a_list_of_its_own_is_published_beside_the_standard(admin_client: Client) -> None:
    model = make_model()
    data = {"model": model.name, "price_list": "partner", "input_nanousd": "9", "output_nanousd": "9"}
    assert admin_client.post(ADD_PRICE, {**data, "_confirmed": "1"}).status_code == 302
    assert list(PriceVersion.objects.order_by("id").values_list("price_list", flat=True)) == ["", "partner"]
    rows = admin_client.get("/admin/billing/priceversion/?list=partner").content.decode()
    assert rows.count("In force") >= 1
    both = admin_client.get("/admin/billing/priceversion/").content.decode()
    assert "Past" not in both


def test_terms_are_published_followed_and_withdrawn(admin_client: Client) -> None:
    make_price("m")
    publish_price(model="m", rates={"input_nanousd": 1, "output_nanousd": 1}, author="t", price_list="partner")
    customer = make_customer()
    data = {"customer": customer.pk, "price_list": "partner", "basis": "list", "markup": "-7.5", "reason": "contract"}
    asked = admin_client.post(ADD_TERMS, data)
    facts = {fact.label: str(fact.value) for fact in asked.context["facts"]}
    assert (facts["Terms"], facts["In force now"]) == ("-7.5 % on the price list; price list: partner", "none")
    assert not PriceTerms.objects.exists()
    assert admin_client.post(ADD_TERMS, {**data, "_confirmed": "1"}).status_code == 302
    terms = PriceTerms.objects.get()
    assert (terms.markup_basis_points, terms.author, terms.reason) == (-750, "admin", "contract")
    assert "In force" in admin_client.get("/admin/billing/priceterms/").content.decode()
    assert admin_client.get(f"/admin/billing/priceterms/{terms.pk}/change/").status_code == 200
    assert admin_client.post(f"/admin/billing/priceterms/{terms.pk}/change/", {"markup": "0"}).status_code == 403
    assert admin_client.post(ADD_TERMS, {**data, "basis": "withdraw", "_confirmed": "1"}).status_code == 302
    assert PriceTerms.objects.latest("id").is_withdrawn
    assert "In force<" not in admin_client.get("/admin/billing/priceterms/").content.decode()


def test_terms_need_one_owner_and_a_sane_markup(admin_client: Client) -> None:
    customer = make_customer()
    for data, place in (
        ({"basis": "list"}, "customer"),
        ({"basis": "list", "customer": customer.pk, "plan": customer.plan_id}, "customer"),
        ({"basis": "list", "customer": customer.pk, "markup": "-101"}, "markup"),
    ):
        answer = admin_client.post(ADD_TERMS, {**data, "_confirmed": "1"})
        assert place in answer.context["form"].errors
    assert not PriceTerms.objects.exists()


def test_a_trial_tells_each_customers_difference_and_writes_nothing(admin_client: Client) -> None:
    record = make_usage(tokens=TokenCounts(input=1_000_000, output=0))
    before = PriceVersion.objects.count(), list(UsageRecord.objects.values())
    query = {"model": record.model, "days": "7", "input_nanousd": "1.5", "output_nanousd": "4"}
    text = admin_client.get(TRY, query).content.decode()
    assert record.customer.name in text
    assert "0.50" in text
    assert (PriceVersion.objects.count(), list(UsageRecord.objects.values())) == before
    started = admin_client.get(TRY, {"version": record.price_version_id}).context["form"]
    assert started.initial["input_nanousd"] == 1 * USD
    assert "days" in admin_client.get(TRY, {**query, "days": "0"}).context["form"].errors


def test_spend_is_shown_by_what_was_asked_for(admin_client: Client) -> None:
    now = datetime.now(UTC)
    make_usage(tags={"team": "blue"}, started_at=now, end_user="u1")
    make_usage(tags={"team": "red"}, started_at=now - timedelta(days=2))
    make_usage(started_at=now - timedelta(days=60))
    by_customer = admin_client.get(SPEND)
    assert len(by_customer.context["panels"][0].rows) == 2
    by_tag = admin_client.get(SPEND, {"group_by": "tag", "tag": "team"})
    assert {row[0] for row in by_tag.context["panels"][0].rows} == {"blue", "red"}
    for group in ("key", "model", "end_user"):
        for interval in ("hour", "day", "month"):
            answer = admin_client.get(SPEND, {"group_by": group, "interval": interval})
            assert answer.status_code == 200
            assert answer.context["has_rows"]
    assert "tag" in admin_client.get(SPEND, {"group_by": "tag"}).context["form"].errors
    assert "tag" in admin_client.get(SPEND, {"group_by": "tag", "tag": "1"}).context["form"].errors
    reversed_days = {"first_day": "2026-11-02", "last_day": "2026-11-01"}
    assert "last_day" in admin_client.get(SPEND, reversed_days).context["form"].errors


def test_the_eight_dearest_groups_have_a_series_and_the_rest_share_one(admin_client: Client) -> None:
    for number in range(11):
        make_usage(end_user=f"u{number:02}", charged_nanousd=1_000 + number)
    chart = admin_client.get(SPEND, {"group_by": "end_user"}).context["chart"]
    assert chart.count('"label"') == 9
    assert "all others" in chart


@pytest.mark.parametrize("url", [TRY, SPEND, ADD_PRICE, ADD_TERMS])
def test_without_the_permission_the_page_is_closed(client: Client, url: str) -> None:
    viewer = User.objects.create_user("viewer", password="x", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_customer"))
    client.force_login(viewer)
    assert client.get(url).status_code == 403

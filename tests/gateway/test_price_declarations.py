"""Prices with tiers and batches, own lists, and terms of plans and customers, from declaration files."""

import pytest

from billing.models import PriceTerms, PriceVersion
from billing.pricing import get_price
from billing.rates import Processing
from gateway.declarations.applying import apply_declarations
from gateway.declarations.document import DeclarationsInvalid
from tests.factories import make_model

pytestmark = pytest.mark.django_db

FILE = """
prices:
  - model: m
    usd_per_million_tokens: {input: 1.25, cache_read: 0.125, output: 10}
    long_input:
      - above_input_tokens: 200000
        usd_per_million_tokens: {input: 2.5, cache_read: 0.25, output: 15}
    batch_discount_percent: 50
  - model: m
    price_list: partner
    usd_per_million_tokens: {input: 1, output: 8}
plans:
  - slug: gold
    prices: {markup_percent: 12.5}
customers:
  - name: Partner
    plan: gold
    prices: {price_list: partner, markup_percent: "-7.25", markup_on: list}
"""


def test_a_file_publishes_bands_lists_and_terms_and_a_repeat_changes_nothing() -> None:
    make_model("m", with_price=False)
    apply_declarations(FILE)
    standard, partner = (get_price(pk) for pk in PriceVersion.objects.order_by("id").values_list("pk", flat=True))
    assert standard.table.rates_for(200_001).cache_read == 250_000_000
    assert standard.table.rates_for(200_001, Processing.BATCH).output == 7_500_000_000
    assert (partner.price_list, partner.rates.input) == ("partner", 10**9)
    found = PriceTerms.objects.order_by("id").values_list("price_list", "markup_basis_points", "customer__name")
    assert list(found) == [("", 1250, None), ("partner", -725, "Partner")]
    again = apply_declarations(FILE)
    assert again.changes == ()
    assert (PriceVersion.objects.count(), PriceTerms.objects.count()) == (2, 2)


def test_a_changed_tier_is_a_new_version_and_says_so() -> None:
    make_model("m", with_price=False)
    apply_declarations(FILE)
    applied = apply_declarations(FILE.replace("output: 15", "output: 16"))
    assert {(f.field, f.old, f.new) for change in applied.changes for f in change.fields} >= {
        ("usd_per_million_tokens (above 200000).output", "15.00", "16.00"),
        ("usd_per_million_tokens (batch, above 200000).output", "7.50", "8.00"),
    }


def test_null_withdraws_terms_and_leaving_them_out_leaves_them() -> None:
    make_model("m", with_price=False)
    apply_declarations(FILE)
    apply_declarations("customers: [{name: Partner}]")
    assert PriceTerms.objects.count() == 2
    apply_declarations("customers: [{name: Partner, prices: null}]")
    assert PriceTerms.objects.latest("id").is_withdrawn
    assert apply_declarations("customers: [{name: Partner, prices: null}]").changes == ()


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("price_list: partner, markup", "price_list: nowhere, markup", "customers[0].prices.price_list"),
        ("12.5}", "12.555}", "plans[0].prices.markup_percent"),
        ("12.5}", "-101}", "plans[0].prices.markup_percent"),
        ("batch_discount_percent: 50", "batch_discount_percent: 101", "prices[0].batch_discount_percent"),
        ("above_input_tokens: 200000", "above_input_tokens: 0", "prices[0].long_input[0].above_input_tokens"),
    ],
)
def test_what_cannot_be_meant_is_named_by_its_place_and_nothing_is_applied(old: str, new: str, field: str) -> None:
    make_model("m", with_price=False)
    assert old in FILE
    with pytest.raises(DeclarationsInvalid) as refused:
        apply_declarations(FILE.replace(old, new))
    assert field in [problem.field for problem in refused.value.problems]
    assert not PriceVersion.objects.exists()

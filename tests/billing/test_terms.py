"""A customer's terms come before its plan's, its plan's before the standard price; nothing is free by accident."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from django.db import IntegrityError, connection, transaction

from billing.errors import PriceInvalid
from billing.models import MarkupBasis, PriceTerms, UsageRecord
from billing.pricing import Price, get_applied_price, publish_price, read_price_book
from billing.reconciliation.usage_checks import check_costs
from billing.terms import find_terms_in_force, publish_terms, withdraw_terms
from billing.tokens import TokenCounts
from common.clock import FrozenClock, to_us
from common.sql import Sql
from gateway.admission.commands import NoteProgress
from gateway.admission.context import BatchContext
from keys.models import Customer
from tests.admitting import make_context, run
from tests.billing.test_money_admin import make_usage
from tests.factories import funded_call, make_customer, make_plan, make_price

pytestmark = pytest.mark.django_db

USD = 10**9
MOMENT = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def context(clock: FrozenClock) -> BatchContext:
    return make_context(clock)


def find(customer: Customer, *, model: str = "m", at: datetime | None = None) -> Price:
    price = read_price_book(Sql(connection)).find_price(
        model, to_us(at or datetime.now(UTC)), customer_id=customer.pk, plan_id=customer.plan_id
    )
    assert price is not None
    return price


def test_the_customers_terms_come_before_the_plans_and_those_before_the_standard() -> None:
    make_price("m", input_usd="1", output_usd="4")
    customer = make_customer()
    assert (find(customer).rates.input, find(customer).terms_id) == (1 * USD, None)
    plan_terms = publish_terms(plan_id=customer.plan_id, markup_basis_points=2_000, author="t")
    assert (find(customer).rates.input, find(customer).terms_id) == (1_200_000_000, plan_terms.pk)
    own = publish_terms(customer_id=customer.pk, markup_basis_points=-1_250, author="t")
    assert (find(customer).rates.output, find(customer).terms_id) == (3_500_000_000, own.pk)
    withdraw_terms(customer_id=customer.pk, author="t")
    assert find(customer).terms_id == plan_terms.pk
    withdraw_terms(plan_id=customer.plan_id, author="t")
    assert (find(customer).rates.input, find(customer).terms_id) == (1 * USD, None)


def test_terms_of_others_are_not_mine() -> None:
    make_price("m", input_usd="1")
    mine, other = make_customer(), make_customer()
    publish_terms(customer_id=other.pk, markup_basis_points=-5_000, author="t")
    publish_terms(plan_id=make_plan().pk, markup_basis_points=-5_000, author="t")
    assert find(mine).rates.input == 1 * USD


def test_terms_count_from_their_moment_on() -> None:
    make_price("m", input_usd="1")
    customer = make_customer()
    publish_terms(customer_id=customer.pk, markup_basis_points=1_000, author="t", effective_from=MOMENT)
    assert find(customer, at=MOMENT - timedelta(microseconds=1)).rates.input == 1 * USD
    assert find(customer, at=MOMENT).rates.input == 1_100_000_000


def test_an_own_list_counts_where_it_has_a_price_and_the_standard_elsewhere_with_the_same_markup() -> None:
    make_price("m", input_usd="1")
    make_price("other", input_usd="2")
    publish_price(model="m", rates={"input_nanousd": 700, "output_nanousd": 9}, author="t", price_list="partner")
    customer = make_customer()
    publish_terms(customer_id=customer.pk, price_list="partner", markup_basis_points=1_000, author="t")
    assert (find(customer).rates.input, find(customer).price_list) == (770, "partner")
    assert (find(customer, model="other").rates.input, find(customer, model="other").price_list) == (2_200_000_000, "")
    assert find(make_customer()).rates.input == 1 * USD


def test_a_markup_on_cost_without_a_cost_charges_the_list_price() -> None:
    make_price("m", input_usd="3", output_usd="5")
    make_price("n", input_usd="3", output_usd="5", provider_input_nanousd=USD, provider_output_nanousd=2 * USD)
    customer = make_customer()
    publish_terms(customer_id=customer.pk, basis=MarkupBasis.COST, markup_basis_points=5_000, author="t")
    assert (find(customer).rates.input, find(customer).rates.output) == (3 * USD, 5 * USD)
    costly = find(customer, model="n")
    assert (costly.rates.input, costly.rates.output) == (1_500_000_000, 3 * USD)
    assert costly.provider_rates.input == USD


def test_a_charge_is_computed_again_from_version_and_terms_whatever_was_published_since() -> None:
    version = make_price("m", input_usd="1")
    customer = make_customer()
    terms = publish_terms(customer_id=customer.pk, markup_basis_points=3_333, author="t")
    then = find(customer)
    make_price("m", input_usd="9", effective_from=datetime.now(UTC))
    publish_terms(customer_id=customer.pk, markup_basis_points=9_999, author="t")
    again = read_price_book(Sql(connection)).get_applied(version.pk, terms.pk)
    assert again == then == get_applied_price(version.pk, terms.pk)


@pytest.mark.parametrize(
    "terms",
    [
        {"markup_basis_points": -10_001},
        {"markup_basis_points": 1_000_001},
        {"price_list": "no such list"},
    ],
)
def test_terms_that_cannot_be_meant_are_refused(terms: dict[str, object]) -> None:
    with pytest.raises(PriceInvalid):
        publish_terms(customer_id=make_customer().pk, author="t", **terms)  # type: ignore[arg-type]
    assert not PriceTerms.objects.exists()


def test_terms_belong_to_a_plan_or_to_a_customer() -> None:
    customer = make_customer()
    with pytest.raises(PriceInvalid):
        publish_terms(author="t")
    with pytest.raises(PriceInvalid):
        publish_terms(author="t", plan_id=customer.plan_id, customer_id=customer.pk)
    row = publish_terms(customer_id=customer.pk, author="t")
    values = PriceTerms.objects.filter(pk=row.pk).values().get()
    for owner in ({"customer_id": None}, {"plan_id": customer.plan_id}):
        copy = PriceTerms(**{**values, "id": None, "effective_from": MOMENT, **owner})
        with pytest.raises(IntegrityError), transaction.atomic():
            copy.save(force_insert=True)


def test_two_terms_cannot_begin_at_one_moment() -> None:
    customer = make_customer()
    publish_terms(customer_id=customer.pk, author="t", effective_from=MOMENT)
    with pytest.raises(PriceInvalid):
        publish_terms(customer_id=customer.pk, author="t", effective_from=MOMENT)
    publish_terms(plan_id=customer.plan_id, author="t", effective_from=MOMENT)
    found = find_terms_in_force(customer_id=customer.pk, at=MOMENT)
    assert found is not None
    assert found.customer_id == customer.pk


def test_a_record_whose_cost_does_not_follow_from_its_terms_is_named() -> None:
    record = make_usage(tokens=TokenCounts(input=1_000, output=0))
    assert check_costs(Sql(connection)).is_clean
    terms = publish_terms(customer_id=record.customer_id, markup_basis_points=1_000, author="t")
    make_usage(tokens=TokenCounts(input=1_000, output=0), price_terms_id=terms.pk)
    (difference,) = check_costs(Sql(connection)).differences
    assert (difference.what, difference.expected, difference.found) == ("cost_nanousd", 1_100_000, 1_000_000)


def test_a_call_whose_server_died_is_charged_by_the_terms_of_its_admission(
    context: BatchContext, clock: FrozenClock
) -> None:
    call = funded_call()
    terms = publish_terms(customer_id=call.customer_id, markup_basis_points=10_000, author="t")
    call = call.refreshed()
    question = call.admit(input_tokens=10, output_tokens=20)
    draft = {**orjson.loads(question.draft), "price_terms_id": terms.pk}
    question = question._replace(draft=orjson.dumps(draft).decode())
    run(question, context=context)
    run(NoteProgress(request_id=question.request_id, output_tokens=5), context=context)
    clock.advance(seconds=700)
    run(context=context)
    record = UsageRecord.objects.get()
    assert (record.status, record.price_terms_id) == ("lost", terms.pk)
    assert record.cost_nanousd == 2 * (10 * 1_000 + 5 * 4_000)
    assert check_costs(Sql(connection)).is_clean

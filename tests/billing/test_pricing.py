"""A call costs its disjoint token classes at the price in force, rounded once, half to even."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import PriceInvalid
from billing.models import PriceVersion
from billing.pricing import (
    MAX_RATE_NANOUSD,
    PRICE_COLUMNS,
    Price,
    PriceBook,
    Rates,
    complete_rates,
    get_price,
    publish_price,
    read_price_book,
)
from billing.rates import flat_table
from billing.tokens import INPUT_CLASSES, OUTPUT_CLASSES, TOKEN_CLASSES, TokenCounts
from common.clock import to_us
from common.sql import Sql
from tests.factories import make_price

USD = 10**9
NO_RATES = dict.fromkeys(TOKEN_CLASSES, 0)
MOMENT = datetime(2026, 11, 21, 12, tzinfo=UTC)

rates_of_any_size = st.builds(
    Rates, **dict.fromkeys((*TOKEN_CLASSES, "request"), st.integers(min_value=0, max_value=MAX_RATE_NANOUSD))
)
counts = st.integers(min_value=0, max_value=2_000_000)
token_counts = st.builds(TokenCounts, **dict.fromkeys(TOKEN_CLASSES, counts))


def _rates(**values: int) -> Rates:
    return Rates(**{**NO_RATES, **values})


@pytest.mark.parametrize(
    ("rates", "tokens", "nanousd"),
    [
        # 1,000 at 2.50 USD a million and 500 at 10.00: 0.0025 + 0.005 USD.
        (_rates(input=2_500_000_000, output=10 * USD), TokenCounts(input=1_000, output=500), 7_500_000),
        # One token at 0.15 USD a million: 150 nano-USD.
        (_rates(input=150_000_000), TokenCounts(input=1), 150),
        # Every class at its own price: 1+2+...+9 tokens, at 1..9 USD a million.
        (
            Rates(
                input=1 * USD,
                cache_read=2 * USD,
                cache_write=3 * USD,
                output=4 * USD,
                reasoning=5 * USD,
                audio_input=6 * USD,
                audio_output=7 * USD,
                image_input=8 * USD,
                image_output=9 * USD,
                request=11,
            ),
            TokenCounts(**{name: number for number, name in enumerate(TOKEN_CLASSES, start=1)}),
            (1 + 4 + 9 + 16 + 25 + 36 + 49 + 64 + 81) * 1_000 + 11,
        ),
        # A price a call alone.
        (_rates(request=40_000_000), TokenCounts(), 40_000_000),
        (_rates(), TokenCounts(input=10**9), 0),
    ],
)
def test_amounts_computed_by_hand(rates: Rates, tokens: TokenCounts, nanousd: int) -> None:
    assert rates.cost(tokens) == nanousd


@pytest.mark.parametrize(
    ("millionths", "nanousd"),
    [(499_999, 0), (500_000, 0), (500_001, 1), (1_500_000, 2), (2_500_000, 2), (2_500_001, 3)],
)
def test_half_a_nano_dollar_goes_to_the_even_neighbour(millionths: int, nanousd: int) -> None:
    assert _rates(input=1).cost(TokenCounts(input=millionths)) == nanousd


def test_the_sum_is_rounded_and_not_its_parts() -> None:
    # Three times 0.4: rounded apart it would be nothing.
    rates = _rates(input=400_000, cache_read=400_000, output=400_000)
    assert rates.cost(TokenCounts(input=1, cache_read=1, output=1)) == 1


@given(rates_of_any_size, token_counts)
def test_the_upper_bound_covers_every_split_of_the_same_totals(rates: Rates, tokens: TokenCounts) -> None:
    bound = rates.upper_bound(input_tokens=tokens.input_total, output_tokens=tokens.output_total)
    assert rates.cost(tokens) <= bound


@given(rates_of_any_size, token_counts, counts, counts)
def test_the_upper_bound_covers_every_smaller_call(
    rates: Rates, tokens: TokenCounts, more_input: int, more_output: int
) -> None:
    bound = rates.upper_bound(
        input_tokens=tokens.input_total + more_input, output_tokens=tokens.output_total + more_output
    )
    assert rates.cost(tokens) <= bound


@given(rates_of_any_size, counts, counts)
def test_the_upper_bound_is_reached_by_the_dearest_split(rates: Rates, input_tokens: int, output_tokens: int) -> None:
    dearest_input = max(INPUT_CLASSES, key=lambda c: getattr(rates, c))
    dearest_output = max(OUTPUT_CLASSES, key=lambda c: getattr(rates, c))
    worst = TokenCounts(**{dearest_input: input_tokens, dearest_output: output_tokens})
    assert 0 <= rates.upper_bound(input_tokens=input_tokens, output_tokens=output_tokens) - rates.cost(worst) <= 1


def test_a_class_that_was_left_out_costs_what_it_is_a_kind_of() -> None:
    complete = complete_rates({"input_nanousd": 3, "output_nanousd": 5, "cache_read_nanousd": 1})
    assert {c: complete[f"{c}_nanousd"] for c in TOKEN_CLASSES} == {
        "input": 3,
        "cache_read": 1,
        "cache_write": 3,
        "output": 5,
        "reasoning": 5,
        "audio_input": 3,
        "audio_output": 5,
        "image_input": 3,
        "image_output": 5,
    }
    assert complete["request_nanousd"] == 0
    assert all(complete[f"provider_{column}"] == 0 for column in PRICE_COLUMNS)


# ---- effective dates


def _price(version_id: int, effective_us: int, model: str = "m") -> Price:
    free = flat_table(_rates())
    return Price(version_id=version_id, model=model, effective_us=effective_us, table=free, provider_table=free)


def test_the_newest_version_in_force_counts_from_its_very_microsecond() -> None:
    book = PriceBook([_price(2, 200), _price(1, 100), _price(9, 0, "other")])
    found = [book.find_price("m", moment) for moment in (99, 100, 199, 200, 10**18)]
    assert [price and price.version_id for price in found] == [None, 1, 1, 2, 2]
    assert book.find_price("unknown", 10**18) is None
    assert book.get_version(1).effective_us == 100
    with pytest.raises(KeyError):
        book.get_version(3)


@pytest.mark.django_db
def test_a_price_from_tomorrow_on_changes_nothing_today() -> None:
    old = make_price("m", input_usd="1", effective_from=MOMENT - timedelta(days=1))
    new = make_price("m", input_usd="2", effective_from=MOMENT + timedelta(days=1))
    book = read_price_book(Sql(connection))
    today, later = book.find_price("m", to_us(MOMENT)), book.find_price("m", to_us(MOMENT + timedelta(days=1)))
    assert today == get_price(old.pk) == book.get_version(old.pk)
    assert later == get_price(new.pk)
    assert (get_price(old.pk).rates.input, get_price(new.pk).rates.input) == (1 * USD, 2 * USD)
    assert book.find_price("m", to_us(MOMENT - timedelta(days=2))) is None


@pytest.mark.django_db
def test_what_the_platform_pays_is_kept_apart() -> None:
    version = make_price("m", input_usd="1", output_usd="2", provider_input_nanousd=5, provider_request_nanousd=7)
    price = get_price(version.pk)
    assert (price.rates.input, price.rates.request) == (1 * USD, 0)
    assert (price.provider_rates.input, price.provider_rates.cache_read, price.provider_rates.request) == (5, 5, 7)


# ---- publishing


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rates", "param"),
    [
        ({"output_nanousd": 1}, "input_nanousd"),
        ({"input_nanousd": 1}, "output_nanousd"),
        ({"input_nanousd": -1, "output_nanousd": 1}, "input_nanousd"),
        ({"input_nanousd": 1, "output_nanousd": MAX_RATE_NANOUSD + 1}, "output_nanousd"),
        ({"input_nanousd": 1, "output_nanousd": 1, "input_tokens": 1}, None),
    ],
)
def test_a_price_that_cannot_be_meant_is_refused(rates: dict[str, int], param: str | None) -> None:
    with pytest.raises(PriceInvalid) as refused:
        publish_price(model="m", rates=rates, author="tests")
    assert refused.value.param == param
    assert not PriceVersion.objects.exists()


@pytest.mark.django_db
def test_two_versions_cannot_start_at_one_moment() -> None:
    first = make_price("m", effective_from=MOMENT)
    with pytest.raises(PriceInvalid):
        make_price("m", input_usd="9", effective_from=MOMENT)
    make_price("other", effective_from=MOMENT)
    copy = PriceVersion(**{**PriceVersion.objects.filter(pk=first.pk).values().get(), "id": None})
    with pytest.raises(IntegrityError), transaction.atomic():
        copy.save(force_insert=True)

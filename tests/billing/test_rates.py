"""Whatever band a call ends up in, however it was processed and marked up: it never costs more than its bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.bands import (
    MAX_RATE_NANOUSD,
    PriceBand,
    add_batch_discount,
    columns_of,
    complete_rates,
    restore_bands,
    store_bands,
)
from billing.errors import PriceInvalid
from billing.pricing import draft_price
from billing.rates import Processing, RateBand, Rates, RateTable
from billing.tokens import TOKEN_CLASSES, TokenCounts

USD = 10**9
rates = st.builds(
    Rates, **dict.fromkeys((*TOKEN_CLASSES, "request"), st.integers(min_value=0, max_value=MAX_RATE_NANOUSD))
)
sizes = st.lists(st.integers(min_value=1, max_value=500_000), max_size=3, unique=True).map(sorted)


@st.composite
def _bands(draw: st.DrawFn) -> tuple[RateBand, ...]:
    return tuple(RateBand(above_input_tokens=above, rates=draw(rates)) for above in (0, *draw(sizes)))


tables = st.builds(RateTable, standard=_bands(), batch=st.one_of(st.just(()), _bands()))
tokens_of_a_call = st.builds(TokenCounts, **dict.fromkeys(TOKEN_CLASSES, st.integers(min_value=0, max_value=300_000)))


@given(
    tables,
    tokens_of_a_call,
    st.sampled_from(Processing),
    st.integers(min_value=0, max_value=100_000),
    st.integers(min_value=0, max_value=30_000),
)
def test_the_bound_covers_every_band_class_processing_and_markup(
    table: RateTable, tokens: TokenCounts, processing: Processing, spare: int, factor: int
) -> None:
    scaled = table.scaled(factor)
    bound = scaled.upper_bound(input_tokens=tokens.input_total + spare, output_tokens=tokens.output_total + spare)
    assert scaled.cost(tokens, processing) <= bound


def test_a_tier_counts_above_its_size_and_for_all_tokens() -> None:
    price = draft_price(
        "m",
        {"input_nanousd": 1 * USD, "output_nanousd": 10 * USD},
        [PriceBand(above_input_tokens=200_000, rates={"input_nanousd": 2 * USD, "output_nanousd": 15 * USD})],
    )
    at = price.table.cost(TokenCounts(input=200_000, output=1_000))
    above = price.table.cost(TokenCounts(input=150_000, cache_read=50_001, output=1_000))
    assert (at, above) == (210_000_000, 200_001 * 2_000 + 15_000_000)


def test_a_discount_of_batches_halves_each_size_of_input_and_leaves_the_price_per_call() -> None:
    base = complete_rates({"input_nanousd": 2 * USD, "output_nanousd": 8 * USD, "request_nanousd": 7})
    tier = PriceBand(above_input_tokens=100, rates={"input_nanousd": 4 * USD, "output_nanousd": 12 * USD})
    bands = add_batch_discount(base, [tier], discount=5_000, provider_discount=0)
    table = draft_price("m", base, bands).table
    short, long = TokenCounts(input=100, output=10), TokenCounts(input=101, output=10)
    assert table.cost(short) == 100 * 2_000 + 10 * 8_000 + 7
    assert table.cost(short, Processing.BATCH) == 100 * 1_000 + 10 * 4_000 + 7
    assert table.cost(long, Processing.BATCH) == 101 * 2_000 + 10 * 6_000 + 7


def test_without_a_batch_price_batches_cost_the_same() -> None:
    table = draft_price("m", {"input_nanousd": 5, "output_nanousd": 5}).table
    tokens = TokenCounts(input=10**6)
    assert table.cost(tokens, Processing.BATCH) == table.cost(tokens) == 5


def test_a_band_without_provider_rates_has_those_of_the_version() -> None:
    base = complete_rates({"input_nanousd": 2, "output_nanousd": 8, "provider_input_nanousd": 1})
    stored = store_bands(base, [PriceBand(above_input_tokens=9, rates={"input_nanousd": 4, "output_nanousd": 4})])
    (band,) = restore_bands(stored)
    assert (band.rates["provider_input_nanousd"], band.rates["cache_read_nanousd"]) == (1, 4)


@given(tables, tables)
def test_tables_survive_being_columns_and_bands(table: RateTable, provider_table: RateTable) -> None:
    columns, bands = columns_of(table, provider_table)
    price = draft_price("m", columns, bands)
    for tokens in (0, 1, 250_000, 600_000):
        for processing in Processing:
            assert price.table.rates_for(tokens, processing) == table.rates_for(tokens, processing)
            assert price.provider_table.rates_for(tokens, processing) == provider_table.rates_for(tokens, processing)


@pytest.mark.parametrize(
    "bands",
    [
        [PriceBand(above_input_tokens=0, rates={"input_nanousd": 1, "output_nanousd": 1})],
        [PriceBand(above_input_tokens=5, rates={"input_nanousd": 1})],
        [PriceBand(above_input_tokens=5, rates={"input_nanousd": -1, "output_nanousd": 1})],
        [PriceBand(above_input_tokens=5, rates={"input_nanousd": 1, "output_nanousd": 1})] * 2,
        [PriceBand(above_input_tokens=5, processing=Processing.BATCH, rates={"input_nanousd": 1, "output_nanousd": 1})],
    ],
)
def test_bands_that_cannot_be_are_refused(bands: list[PriceBand]) -> None:
    with pytest.raises(PriceInvalid):
        draft_price("m", {"input_nanousd": 1, "output_nanousd": 1}, bands)

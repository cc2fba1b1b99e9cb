"""Prices of the bundled data become our rates: every figure here is the package's own, at every size and processing."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price

from billing.price_source import SourcedPrice, find_sourced_price
from billing.rates import Processing
from billing.tokens import TokenCounts

NOW = datetime(2026, 11, 21, tzinfo=UTC)
MODELS = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-5"),
    ("openai", "gpt-4o-audio-preview"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-6"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
]


def find(provider: str, model: str) -> SourcedPrice:
    found = find_sourced_price(model, provider=provider, at=NOW)
    assert found is not None
    return found


@pytest.mark.parametrize(("provider", "model"), MODELS)
@pytest.mark.parametrize("plain_input", [1_000, 199_000, 250_000, 300_000])
def test_a_call_costs_what_the_package_computes(provider: str, model: str, plain_input: int) -> None:
    tokens = TokenCounts(input=plain_input, cache_read=700, output=1_234)
    usage = Usage(input_tokens=plain_input + 700, cache_read_tokens=700, output_tokens=1_234)
    expected = calc_price(usage, model, provider_id=provider, genai_request_timestamp=NOW).total_price
    assert abs(Decimal(find(provider, model).table.cost(tokens)) - expected * 10**9) <= Decimal("0.5")


@pytest.mark.parametrize(("provider", "model"), [("google", "gemini-2.5-pro"), ("anthropic", "claude-sonnet-4-5")])
@pytest.mark.parametrize("plain_input", [1_000, 250_000])
def test_a_batch_costs_what_the_package_computes(provider: str, model: str, plain_input: int) -> None:
    tokens = TokenCounts(input=plain_input, cache_read=700, output=1_234)
    usage = Usage(input_tokens=plain_input + 700, cache_read_tokens=700, output_tokens=1_234)
    expected = calc_price(
        usage, model, provider_id=provider, genai_request_timestamp=NOW, price_context={"processing": "batch"}
    ).total_price
    table = find(provider, model).table
    assert abs(Decimal(table.cost(tokens, Processing.BATCH)) - expected * 10**9) <= Decimal("0.5")
    assert table.cost(tokens, Processing.BATCH) < table.cost(tokens)


def test_the_provider_is_known_by_its_address() -> None:
    found = find_sourced_price("gpt-4o", base_url="https://api.openai.com/v1", at=NOW)
    assert found is not None
    assert (found.provider, found.table.base.input, found.table.base.cache_read) == (
        "openai",
        2_500_000_000,
        1_250_000_000,
    )


@pytest.mark.parametrize(
    ("model", "where"),
    [
        ("gpt-4o", {"base_url": "http://127.0.0.1:9/v1"}),
        ("no-such-model", {"provider": "openai"}),
        ("gpt-4o", {"provider": "no-such-provider"}),
        # Sold by the hour of audio: not a price per token.
        ("whisper-large-v3", {"provider": "groq"}),
    ],
)
def test_what_the_data_does_not_know_is_not_guessed(model: str, where: dict[str, str]) -> None:
    assert find_sourced_price(model, at=NOW, **where) is None


def test_what_our_classes_cannot_express_is_told() -> None:
    assert any("web_searches" in note for note in find("openai", "gpt-5").notes)

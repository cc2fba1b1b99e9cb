"""Payloads of providers become disjoint classes that add up to the provider's totals, at amounts computed by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import draft_price
from billing.tokens import TokenCounts
from billing.usage import split_usage
from common.money import format_usd, parse_usd

GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parent / "golden" / "usage.json").read_text(encoding="utf-8"))
counts = st.integers(min_value=0, max_value=10**6)
payloads = st.fixed_dictionaries(
    {"prompt_tokens": counts, "completion_tokens": counts},
    optional={
        "total_tokens": counts,
        "prompt_tokens_details": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("cached_tokens", "audio_tokens", "image_tokens"), counts)
        ),
        "completion_tokens_details": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("reasoning_tokens", "audio_tokens", "image_tokens"), counts)
        ),
    },
)


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_a_real_payload_costs_what_was_computed_by_hand(case: dict[str, Any]) -> None:
    split = split_usage(case["payload"])
    assert split is not None
    assert split.tokens == TokenCounts(**case["classes"])
    assert list(split.flags) == case["flags"]
    rates = {f"{name}_nanousd": parse_usd(text) for name, text in case["usd_per_million"].items()}
    cost = draft_price("m", rates).table.cost(split.tokens)
    assert format_usd(cost) == format_usd(parse_usd(case["cost_usd"])), case["by_hand"]


@given(payloads)
def test_no_token_that_a_provider_counted_is_lost_and_none_is_invented_without_a_flag(payload: dict[str, Any]) -> None:
    split = split_usage(payload)
    assert split is not None
    total = payload.get("total_tokens", 0)
    told = max(total, payload["prompt_tokens"] + payload["completion_tokens"])
    found = split.tokens.input_total + split.tokens.output_total
    assert found >= told
    assert split.tokens.input_total >= payload["prompt_tokens"]
    assert split.tokens.output_total >= payload["completion_tokens"]
    if not split.flags:
        assert found == told


@given(payloads)
def test_parts_that_fit_their_totals_are_never_flagged(payload: dict[str, Any]) -> None:
    payload = {**payload, "total_tokens": payload["prompt_tokens"] + payload["completion_tokens"]}
    inputs = sum(payload.get("prompt_tokens_details", {}).values())
    outputs = sum(payload.get("completion_tokens_details", {}).values())
    split = split_usage(payload)
    assert split is not None
    assert bool(split.flags) == (inputs > payload["prompt_tokens"] or outputs > payload["completion_tokens"])


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": "3", "completion_tokens": 4},
        {"prompt_tokens": -1, "completion_tokens": 4},
        {"prompt_tokens": 10**10, "completion_tokens": 4},
        {"prompt_tokens": True, "completion_tokens": 4},
        {"input_tokens": 3},
        {"total_tokens": 7},
    ],
)
def test_what_cannot_be_read_is_not_guessed(payload: dict[str, object]) -> None:
    assert split_usage(payload) is None


def test_lifetimes_of_the_cache_that_contradict_its_sum_are_flagged_and_the_higher_counts() -> None:
    split = split_usage(
        {
            "input_tokens": 1,
            "output_tokens": 1,
            "cache_creation_input_tokens": 5,
            "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 4},
        }
    )
    assert split is not None
    assert (split.tokens.cache_write, split.flags) == (8, ("usage_total_mismatch",))

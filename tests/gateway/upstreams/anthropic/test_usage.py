"""Usage: the OpenAI-shaped object says exactly what Anthropic's said."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.usage import split_anthropic_usage, split_usage
from gateway.upstreams.anthropic.usage import merge_usage, translate_usage

_counts = st.integers(0, 10**6)
_optional = st.none() | _counts
_usages = st.fixed_dictionaries(
    {"input_tokens": _counts, "output_tokens": _counts},
    optional={
        "cache_read_input_tokens": _optional,
        "cache_creation_input_tokens": _optional,
        "cache_creation": st.fixed_dictionaries(
            {"ephemeral_5m_input_tokens": _counts, "ephemeral_1h_input_tokens": _counts}
        ),
        "output_tokens_details": st.fixed_dictionaries({"thinking_tokens": _counts}),
    },
)


@given(_usages)
def test_both_shapes_split_into_the_same_classes(usage: dict[str, Any]) -> None:
    original = split_anthropic_usage(usage)
    translated = split_usage(translate_usage(usage))
    assert original is not None
    assert translated is not None
    assert translated.tokens == original.tokens
    assert set(translated.flags) == set(original.flags)


@given(_usages)
def test_anthropics_own_shape_is_recognised(usage: dict[str, Any]) -> None:
    assert split_usage(usage) == split_anthropic_usage(usage)


def test_unreadable_totals_stay_unreadable() -> None:
    assert split_usage(translate_usage({"output_tokens": -1, "input_tokens": 4})) is None


def test_running_totals_replace_and_nulls_say_nothing() -> None:
    start = {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 7}
    assert merge_usage(start, {"output_tokens": 30, "cache_read_input_tokens": None}) == {**start, "output_tokens": 30}
    assert merge_usage(start, None) == start

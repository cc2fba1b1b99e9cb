"""Usage in OpenAI's shape: totals that include their parts.

`split_usage` of what is made here gives what `split_anthropic_usage` gives of the original, flags included (a test says
so): the transcript need not know where a chunk came from.
"""

from collections.abc import Mapping
from typing import Any

from billing.usage import TOTAL_MISMATCH, split_anthropic_usage


def translate_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OpenAI-shaped usage object; totals that cannot be read are left as they are, for others to flag."""
    found = split_anthropic_usage(usage)
    if found is None:
        return {"prompt_tokens": usage.get("input_tokens"), "completion_tokens": usage.get("output_tokens")}
    tokens, completion = found.tokens, usage["output_tokens"]
    # One less: what contradicted itself there contradicts itself here, and the parts are charged.
    contradiction = 1 if TOTAL_MISMATCH in found.flags else 0
    return {
        "prompt_tokens": tokens.input_total,
        "completion_tokens": completion,
        "total_tokens": max(0, tokens.input_total + completion - contradiction),
        "prompt_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    }


def merge_usage(known: Mapping[str, Any], update: object) -> dict[str, Any]:
    """Return the usage after a `message_delta`: its counts are running totals, and nulls say nothing new."""
    if not isinstance(update, Mapping):
        return dict(known)
    return {**known, **{name: value for name, value in update.items() if value is not None}}

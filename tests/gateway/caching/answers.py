"""Answers as the cache keeps them."""

from typing import Any

from billing.tokens import TokenCounts
from gateway.caching.entries import CachedAnswer

SECOND_US = 1_000_000


def make_answer(**fields: Any) -> CachedAnswer:
    """Return an answer that was complete at the beginning of time and is kept for a minute."""
    return CachedAnswer(
        **{
            "upstream": "east",
            "upstream_model": "alpha",
            "tokens": TokenCounts(input=3, output=4),
            "is_estimated": False,
            "finish_reason": "stop",
            "processing": "standard",
            "stored_us": 0,
            "keep_until_us": 60 * SECOND_US,
            "output": {"city": "Bern"},
            "body": b'{"choices":[]}',
            **fields,
        }
    )

"""Splitting a provider's usage payload into disjoint token classes.

OpenAI's shape (https://platform.openai.com/docs/api-reference/chat/object, 2026-11): `prompt_tokens` includes
cached and audio tokens, `completion_tokens` includes reasoning and audio tokens. Where the parts and the totals
contradict each other, the higher is charged and the record is flagged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from billing.tokens import TokenCounts

# More tokens than any context window holds: a figure beyond it is noise, not usage.
_ABSURD = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitUsage:
    """Token classes and what was wrong with the payload (names for `UsageRecord.flags`)."""

    tokens: TokenCounts
    flags: tuple[str, ...] = ()


def split_openai_usage(payload: Mapping[str, object]) -> SplitUsage | None:
    """Return the disjoint classes of an OpenAI-shaped usage object, or None when it has no readable totals."""
    prompt, completion = _count(payload.get("prompt_tokens")), _count(payload.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    flags = []
    prompt_details = payload.get("prompt_tokens_details")
    cached, written, audio_input = _details(prompt_details, "cached_tokens", "cache_write_tokens", "audio_tokens")
    completion_details = payload.get("completion_tokens_details")
    reasoning, audio_output, _ = _details(completion_details, "reasoning_tokens", "audio_tokens", "")
    if cached + written + audio_input > prompt or reasoning + audio_output > completion:
        flags.append("usage_parts_exceed_total")
    total = _count(payload.get("total_tokens"))
    if total is not None and total != prompt + completion:
        flags.append("usage_total_mismatch")
        # Gemini's compatible endpoint counts thinking only in the total.
        reasoning += max(0, total - prompt - completion)
        completion += max(0, total - prompt - completion)
    tokens = TokenCounts(
        input=max(0, prompt - cached - written - audio_input),
        cache_read=cached,
        cache_write=written,
        audio_input=audio_input,
        output=max(0, completion - reasoning - audio_output),
        reasoning=reasoning,
        audio_output=audio_output,
    )
    return SplitUsage(tokens=tokens, flags=tuple(flags))


def _details(details: object, *names: str) -> tuple[int, int, int]:
    if not isinstance(details, Mapping):
        return 0, 0, 0
    first, second, third = (_count(details.get(name)) or 0 for name in names)
    return first, second, third


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _ABSURD else None

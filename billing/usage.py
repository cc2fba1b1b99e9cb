"""Splitting a provider's usage payload into disjoint token classes.

Three shapes, told apart by their names (all 2026-11):

- OpenAI's chat completions (https://platform.openai.com/docs/api-reference/chat/object) and whatever is compatible:
  `prompt_tokens` includes cached, audio and image tokens, `completion_tokens` includes reasoning, audio and image.
- OpenAI's responses (https://platform.openai.com/docs/api-reference/responses/object): the same meaning under
  `input_tokens` and `output_tokens`, with `total_tokens` or `*_details` beside them.
- Anthropic's messages (https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing): `input_tokens`
  excludes what was read from or written to the cache, and there is no total to check against.

The classes add up to the provider's own totals. Where its parts and totals contradict each other, the higher is charged
and the record is flagged.
"""

from collections.abc import Mapping
from typing import NamedTuple

from billing.tokens import TokenCounts

# More tokens than any context window holds: a figure beyond it is noise, not usage.
_ABSURD = 1_000_000_000
PARTS_EXCEED_TOTAL = "usage_parts_exceed_total"
TOTAL_MISMATCH = "usage_total_mismatch"


class SplitUsage(NamedTuple):
    """Token classes and what was wrong with the payload (names for `UsageRecord.flags`)."""

    tokens: TokenCounts
    flags: tuple[str, ...] = ()


class _Figures(NamedTuple):
    """What a payload says, before it is made disjoint."""

    prompt: int
    completion: int
    total: int | None
    cached: int
    written: int
    audio_input: int
    image_input: int
    reasoning: int
    audio_output: int
    image_output: int


def split_usage(payload: Mapping[str, object]) -> SplitUsage | None:
    """Return the disjoint classes of a usage object of any known shape, or None when it has no readable totals."""
    if "prompt_tokens" in payload or "completion_tokens" in payload:
        return _split_inclusive(payload, "prompt", "completion")
    if any(name in payload for name in ("total_tokens", "input_tokens_details")):
        return _split_inclusive(payload, "input", "output")
    details = payload.get("output_tokens_details")
    if isinstance(details, Mapping) and "thinking_tokens" not in details:
        return _split_inclusive(payload, "input", "output")
    return split_anthropic_usage(payload)


def split_anthropic_usage(payload: Mapping[str, object]) -> SplitUsage | None:
    """Return the disjoint classes of an Anthropic usage object, or None when it has no readable totals.

    `output_tokens` includes thinking (https://platform.claude.com/docs/en/api/messages, 2026-11).
    """
    given, output = _count(payload.get("input_tokens")), _count(payload.get("output_tokens"))
    if given is None or output is None:
        return None
    written = _count(payload.get("cache_creation_input_tokens")) or 0
    lifetimes = sum(_details(payload.get("cache_creation"), "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"))
    (thinking,) = _details(payload.get("output_tokens_details"), "thinking_tokens")
    tokens = TokenCounts(
        input=given,
        cache_read=_count(payload.get("cache_read_input_tokens")) or 0,
        cache_write=max(written, lifetimes),
        output=max(0, output - thinking),
        reasoning=thinking,
    )
    flags = []
    if thinking > output:
        flags.append(PARTS_EXCEED_TOTAL)
    if lifetimes not in (0, written):
        flags.append(TOTAL_MISMATCH)
    return SplitUsage(tokens=tokens, flags=tuple(flags))


def _split_inclusive(payload: Mapping[str, object], prompt_name: str, completion_name: str) -> SplitUsage | None:
    figures = _read_figures(payload, prompt_name, completion_name)
    if figures is None:
        return None
    prompt, completion, reasoning = figures.prompt, figures.completion, figures.reasoning
    flags = []
    outside = 0 if figures.total is None else max(0, figures.total - prompt - completion)
    if outside and outside == reasoning:
        # Some count reasoning beside the completion (xAI); all figures agree, so nothing is odd about it.
        completion += outside
    elif outside:
        # Gemini's compatible endpoint counts thinking only in the total.
        flags.append(TOTAL_MISMATCH)
        reasoning = max(reasoning, outside) if reasoning > completion else reasoning + outside
        completion += outside
    elif figures.total is not None and figures.total < prompt + completion:
        flags.append(TOTAL_MISMATCH)
    input_parts = figures.cached + figures.written + figures.audio_input + figures.image_input
    output_parts = reasoning + figures.audio_output + figures.image_output
    if input_parts > prompt or output_parts > completion:
        flags.insert(0, PARTS_EXCEED_TOTAL)
    tokens = TokenCounts(
        input=max(0, prompt - input_parts),
        cache_read=figures.cached,
        cache_write=figures.written,
        audio_input=figures.audio_input,
        image_input=figures.image_input,
        output=max(0, completion - output_parts),
        reasoning=reasoning,
        audio_output=figures.audio_output,
        image_output=figures.image_output,
    )
    return SplitUsage(tokens=tokens, flags=tuple(flags))


def _read_figures(payload: Mapping[str, object], prompt_name: str, completion_name: str) -> _Figures | None:
    prompt, completion = _count(payload.get(f"{prompt_name}_tokens")), _count(payload.get(f"{completion_name}_tokens"))
    if prompt is None or completion is None:
        return None
    cached, written, also_written, audio_input, image_input = _details(
        payload.get(f"{prompt_name}_tokens_details"),
        "cached_tokens",
        "cache_write_tokens",
        "cache_creation_tokens",
        "audio_tokens",
        "image_tokens",
    )
    reasoning, audio_output, image_output = _details(
        payload.get(f"{completion_name}_tokens_details"), "reasoning_tokens", "audio_tokens", "image_tokens"
    )
    # DeepSeek, and proxies in front of Anthropic, name the cache beside the details.
    hits, read, created = _details(
        payload, "prompt_cache_hit_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"
    )
    return _Figures(
        prompt=prompt,
        completion=completion,
        total=_count(payload.get("total_tokens")),
        cached=max(cached, hits, read),
        written=max(written, also_written, created),
        audio_input=audio_input,
        image_input=image_input,
        reasoning=reasoning,
        audio_output=audio_output,
        image_output=image_output,
    )


def _details(details: object, *names: str) -> tuple[int, ...]:
    # Most answers name few of them, or all as zero: asking for each costs more than the rest of a payload.
    if not isinstance(details, Mapping) or details.keys().isdisjoint(names) or not any(details.values()):
        return (0,) * len(names)
    return tuple([_count(details.get(name)) or 0 for name in names])


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _ABSURD else None

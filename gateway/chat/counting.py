"""Counting a call's input tokens before it is sent.

One vocabulary (o200k) serves as the estimate for every model; a model whose own tokenizer makes more tokens carries a
percentage (`Model.input_estimate_percent`), and what is billed is the upstream's own count. The tokenizer holds the
interpreter lock while it works, so long texts are counted in slices with the event loop running in between, and
counting stops as soon as the call cannot fit any more.
"""

import asyncio
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

import orjson

# About 0.1 ms of prose and 1 ms of the worst input measured (random letters), per slice.
_SLICE_CHARACTERS = 16_000
# OpenAI's counting rule for chat messages: 3 a message, 1 a name, 3 to prime the answer
# (OpenAI cookbook, "How to count tokens with tiktoken", 2025).
_PER_MESSAGE = 4
_PER_CALL = 3
# Audio input: 10 tokens a second; the smallest common encoding is about 2,000 base64 characters a second.
_CHARACTERS_PER_AUDIO_TOKEN = 200
_CHARACTERS_PER_FILE_TOKEN = 4


class InputCount(NamedTuple):
    """What a call's input amounts to, before the model's own factors."""

    text_tokens: int
    images: int


@lru_cache(maxsize=1)
def _backend() -> Any:
    """Return the tokenizer's engine, loaded without its package.

    Importing `bpe_openai` builds Python tables of three vocabularies, 80 MB and 0.5 s that counting has no use for; its
    public `encode` refuses a million characters and builds the list of tokens, the engine just counts.
    """
    package = importlib.util.find_spec("bpe_openai")
    assert package is not None
    spec = PathFinder.find_spec("bpe_openai._bindings", package.submodule_search_locations)
    assert spec is not None
    assert spec.loader is not None
    bindings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bindings)
    return bindings.tokenizer_for_encoding("o200k_base")


def load_vocabulary() -> None:
    """Load the tokenizer's tables (0.2 s), so that no call pays for it."""
    _backend()


def count_text(text: str) -> int:
    """Return the tokens of a text; for short texts, see `count_input` for long ones."""
    return int(_backend().count(text))


async def count_input(body: dict[str, Any], *, enough: int) -> InputCount:
    """Return the count of messages, tools and response format of a chat body in its canonical form.

    Counting ends early once `enough` is passed: the caller refuses such a call whatever the exact number.
    """
    count = _backend().count
    images = 0
    tokens = _PER_CALL
    for message in body["messages"]:
        tokens += _PER_MESSAGE
        for kind, value in _parts(message):
            if kind == "image":
                images += 1
            elif kind == "audio":
                tokens += len(value) // _CHARACTERS_PER_AUDIO_TOKEN + 1
            elif kind == "file":
                tokens += len(value) // _CHARACTERS_PER_FILE_TOKEN + 1
            elif len(value) <= _SLICE_CHARACTERS:
                tokens += count(value)
            else:
                tokens += await _count_long(value, enough=enough - tokens)
        if tokens > enough:
            return InputCount(text_tokens=tokens, images=images)
    for name in ("tools", "response_format"):
        if body.get(name):
            tokens += await _count_long(orjson.dumps(body[name]).decode(), enough=enough - tokens)
    return InputCount(text_tokens=tokens, images=images)


async def _count_long(text: str, *, enough: int) -> int:
    count = _backend().count
    tokens = 0
    for start in range(0, len(text), _SLICE_CHARACTERS):
        # A slice's edge can cut a token in two: the sum is at most a token a slice too high, never too low.
        tokens += count(text[start : start + _SLICE_CHARACTERS])
        if tokens > enough:
            break
        await asyncio.sleep(0)
    return tokens


def _parts(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    content = message.get("content")
    if isinstance(content, str):
        yield "text", content
    elif content:
        for part in content:
            kind = part["type"]
            if kind == "image_url":
                yield "image", ""
            elif kind == "input_audio":
                yield "audio", part["input_audio"]["data"]
            elif kind == "file":
                yield "file", part["file"].get("file_data", "")
            else:
                yield "text", part.get("text") or part.get("refusal") or ""
    if message.get("name"):
        yield "text", message["name"]
    for call in message.get("tool_calls") or ():
        yield "text", orjson.dumps(call).decode()

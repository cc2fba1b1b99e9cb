"""The whole answer: a Message as a ChatCompletion."""

import time
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.errors import UpstreamInvalidAnswer
from gateway.upstreams.anthropic.errors import error_of_object
from gateway.upstreams.anthropic.usage import translate_usage
from gateway.upstreams.dialect import Event, parse_object

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    # Only the provider's own tools pause a turn, and none is ever offered.
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def finish_reason(stop_reason: str) -> str:
    """Return OpenAI's reason."""
    return _FINISH_REASONS.get(stop_reason, "stop")


def refusal_of(stop_details: object) -> str | None:
    """Return the words of a refusal, where there are any."""
    explanation = stop_details.get("explanation") if isinstance(stop_details, Mapping) else None
    return explanation if isinstance(explanation, str) and explanation else None


def read_completion(raw: bytes) -> Event:
    """Return the completion of a Message.

    Raises UpstreamInvalidAnswer when it is none, or the error that stands in its place.
    """
    message = parse_object(raw)
    if message.get("type") != "message" or not isinstance(message.get("content"), list):
        raise error_of_object(message)
    try:
        completion = translate_message(message, created=int(time.time()))
    except (AttributeError, KeyError, TypeError) as error:
        raise UpstreamInvalidAnswer(internal_detail=f"unreadable message: {error!r}") from error
    return orjson.dumps(completion), completion


def translate_message(message: Mapping[str, Any], *, created: int) -> dict[str, Any]:
    """Return a Message as a ChatCompletion. Blocks of kinds that are unknown here are left out."""
    blocks = message["content"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    thoughts = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    calls = [_tool_call(block) for block in blocks if block["type"] == "tool_use"]
    answer: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
    answer["refusal"] = refusal_of(message.get("stop_details"))
    if thoughts:
        answer["reasoning_content"] = thoughts
    if calls:
        answer["tool_calls"] = calls
    reason = finish_reason(str(message["stop_reason"]))
    completion = {
        "id": message["id"],
        "object": "chat.completion",
        "created": created,
        "model": message["model"],
        "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": reason}],
    }
    if isinstance(message.get("usage"), Mapping):
        completion["usage"] = translate_usage(message["usage"])
    return completion


def _tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = orjson.dumps(block["input"]).decode()
    return {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}}

"""The same answers in Anthropic's words: pure functions from a behaviour and a request to Messages and their events.

https://platform.claude.com/docs/en/api/messages and .../build-with-claude/streaming (2026-11). Named points of a
behaviour stand for what plays their part here: "finish" is message_delta, "done" is message_stop.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from tests.upstream.answers import Call, Event, EventKind, answer_text, content_pieces, encode_json, insert_extras
from tests.upstream.behaviours import Behaviour, JsonObject

PATH_END = "/messages"
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def build_message(behaviour: Behaviour, call: Call) -> JsonObject:
    """Build the answer to a request without `stream`."""
    content: list[JsonObject] = []
    if behaviour.reasoning:
        content.append({"type": "thinking", "thinking": "".join(behaviour.reasoning), "signature": "c2NyaXB0ZWQ="})
    if text := answer_text(behaviour):
        content.append({"type": "text", "text": text})
    content += [
        {"type": "tool_use", "id": tool.id, "name": tool.name, "input": json.loads(tool.arguments)}
        for tool in behaviour.tool_calls
    ]
    return {
        **_envelope(behaviour, call),
        "content": content,
        "stop_reason": _stop_reason(behaviour),
        "usage": _usage(behaviour, call),
    }


def build_message_error(behaviour: Behaviour) -> JsonObject:
    """Build the Anthropic-shaped error object of a behaviour."""
    return {
        "type": "error",
        "error": {"type": behaviour.error_type, "message": behaviour.error_message},
        "request_id": "req_scripted",
    }


def build_message_stream(behaviour: Behaviour, call: Call) -> Iterator[Event]:
    """Yield the events of a streamed Message, message_stop last; without end when the behaviour is endless."""
    return insert_extras(behaviour, _events(behaviour, call))


def _events(behaviour: Behaviour, call: Call) -> Iterator[Event]:
    usage = _usage(behaviour, call)
    start = {**_envelope(behaviour, call), "content": [], "stop_reason": None}
    # What the input came to is known by now, and one token of the output.
    yield _event(EventKind.DELTA, "message_start", message={**start, "usage": {**usage, "output_tokens": 1}})
    yield _event(EventKind.DELTA, "ping")
    index = itertools.count()
    if behaviour.reasoning:
        thoughts = [{"type": "thinking_delta", "thinking": thought} for thought in behaviour.reasoning]
        thoughts.append({"type": "signature_delta", "signature": "c2NyaXB0ZWQ="})
        yield from _block(next(index), {"type": "thinking", "thinking": "", "signature": ""}, iter(thoughts))
    if behaviour.endless or not behaviour.tool_calls or behaviour.text:
        pieces = content_pieces(behaviour, endless=behaviour.endless)
        texts: Iterator[JsonObject] = ({"type": "text_delta", "text": piece} for piece in pieces)
        yield from _block(next(index), {"type": "text", "text": ""}, texts, kind=EventKind.CONTENT)
    for tool in behaviour.tool_calls:
        half = len(tool.arguments) // 2
        parts = ("", tool.arguments[:half], tool.arguments[half:])
        inputs: Iterator[JsonObject] = ({"type": "input_json_delta", "partial_json": part} for part in parts)
        yield from _block(next(index), {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}, inputs)
    if behaviour.finish_reason is not None:
        delta = {"stop_reason": _stop_reason(behaviour), "stop_sequence": None}
        totals = {"output_tokens": usage["output_tokens"]} if "output_tokens" in usage else {}
        yield _event(EventKind.FINISH, "message_delta", delta=delta, usage={**usage, **totals})
    if behaviour.done:
        yield _event(EventKind.DONE, "message_stop")


def _block(
    index: int, opening: JsonObject, deltas: Iterator[JsonObject], *, kind: EventKind = EventKind.DELTA
) -> Iterator[Event]:
    yield _event(EventKind.DELTA, "content_block_start", index=index, content_block=opening)
    for delta in deltas:
        yield _event(kind, "content_block_delta", index=index, delta=delta)
    yield _event(EventKind.DELTA, "content_block_stop", index=index)


def _event(kind: EventKind, name: str, **members: Any) -> Event:
    return Event(kind=kind, name=name, data=encode_json({"type": name, **members}))


def _envelope(behaviour: Behaviour, call: Call) -> dict[str, Any]:
    return {
        "id": f"msg_scripted_{call.number}",
        "type": "message",
        "role": "assistant",
        "model": behaviour.model or call.model,
        "stop_sequence": None,
    }


def _stop_reason(behaviour: Behaviour) -> str | None:
    if behaviour.finish_reason == "auto":
        return "tool_use" if behaviour.tool_calls else "end_turn"
    return _STOP_REASONS.get(behaviour.finish_reason or "", behaviour.finish_reason)


def _usage(behaviour: Behaviour, call: Call) -> JsonObject:
    if behaviour.usage is not None:
        return behaviour.usage
    pieces = sum(1 for _ in content_pieces(behaviour, endless=False))
    produced = len(behaviour.reasoning) + len(behaviour.tool_calls) + pieces * behaviour.tokens_per_event
    return {"input_tokens": call.prompt_tokens, "output_tokens": produced}

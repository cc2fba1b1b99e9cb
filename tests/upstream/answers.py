"""What an answer says: pure functions from a behaviour and a request to chat completion objects.

Nothing here depends on time or chance. Ids follow the number of the request, `created` is fixed, text is
counted out of a fixed list of words.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from tests.upstream.behaviours import Behaviour, Inject, JsonObject, UsagePlace

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty")
CREATED_AT_SECONDS = 1_767_225_600

# What one event changes in a choice, under construction.
Delta: TypeAlias = dict[str, Any]


class EventKind(StrEnum):
    """What an event carries; the values of FINISH, USAGE and DONE are also named points of an answer."""

    DELTA = "delta"
    CONTENT = "content"
    FINISH = "finish"
    USAGE = "usage"
    INJECTED = "injected"
    DONE = "done"
    # The whole body of an answer that is not a stream.
    BODY = "body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a stream before framing, or a whole body."""

    kind: EventKind
    data: str
    # The SSE `event:` field.
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What matters of a chat completion request."""

    number: int
    model: str
    stream: bool
    include_usage: bool
    choices: int
    # Words in the messages: a stand-in for tokens that a test can count by eye.
    prompt_tokens: int


def read_call(*, number: int, body: JsonObject) -> Call:
    """Read a request body leniently: a double must not refuse what the test wants to see arrive."""
    options = body.get("stream_options")
    messages = body.get("messages")
    choices = body.get("n")
    objects = [item for item in messages if isinstance(item, dict)] if isinstance(messages, list) else []
    texts = [text for message in objects for text in _read_texts(message.get("content"))]
    return Call(
        number=number,
        model=str(body.get("model", "")),
        stream=bool(body.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        choices=choices if isinstance(choices, int) else 1,
        prompt_tokens=sum(len(text.split()) for text in texts),
    )


def _read_texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return [str(part.get("text", "")) for part in content if isinstance(part, dict)]
    return []


def answer_text(behaviour: Behaviour) -> str:
    """Return the whole content that one choice of a finished answer will have; "" for tool calls alone."""
    return "".join(content_pieces(behaviour, endless=False))


def content_pieces(behaviour: Behaviour, *, endless: bool) -> Iterator[str]:
    """Yield the content of each content event."""
    if behaviour.text is not None and not endless:
        for index in range(behaviour.events):
            start, end = (len(behaviour.text) * edge // behaviour.events for edge in (index, index + 1))
            yield behaviour.text[start:end]
        return
    if behaviour.tool_calls and not endless:
        return
    words = itertools.cycle(WORDS)
    for _ in itertools.count() if endless else range(behaviour.events):
        yield "".join(f"{next(words)} " for _ in range(behaviour.tokens_per_event))


def _count_usage(behaviour: Behaviour, call: Call, *, content_events: int) -> JsonObject:
    completion = len(behaviour.reasoning) + len(behaviour.tool_calls) + content_events * behaviour.tokens_per_event
    return {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": completion * call.choices,
        "total_tokens": call.prompt_tokens + completion * call.choices,
    }


def _total_usage(behaviour: Behaviour, call: Call) -> JsonObject:
    if behaviour.usage is not None:
        return behaviour.usage
    return _count_usage(behaviour, call, content_events=sum(1 for _ in content_pieces(behaviour, endless=False)))


def _finish_reason(behaviour: Behaviour) -> str | None:
    if behaviour.finish_reason == "auto":
        return "tool_calls" if behaviour.tool_calls else "stop"
    return behaviour.finish_reason


def _envelope(behaviour: Behaviour, call: Call, *, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-scripted-{call.number}",
        "object": kind,
        "created": CREATED_AT_SECONDS,
        "model": behaviour.model or call.model,
        "system_fingerprint": "fp_scripted",
        **({"service_tier": behaviour.service_tier} if behaviour.service_tier is not None else {}),
    }


def build_completion(behaviour: Behaviour, call: Call) -> JsonObject:
    """Build the answer to a request without `stream`."""
    message: dict[str, Any] = {"role": "assistant", "content": answer_text(behaviour), "refusal": None}
    if behaviour.reasoning:
        message["reasoning_content"] = "".join(behaviour.reasoning)
    if behaviour.tool_calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [
            {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": tool.arguments}}
            for tool in behaviour.tool_calls
        ]
    completion = _envelope(behaviour, call, kind="chat.completion")
    completion["choices"] = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": _finish_reason(behaviour)}
        for index in range(call.choices)
    ]
    if behaviour.usage_place is not UsagePlace.NOWHERE:
        completion["usage"] = _total_usage(behaviour, call)
    return completion


def build_error(behaviour: Behaviour) -> JsonObject:
    """Build the OpenAI-shaped error object of a behaviour."""
    return {
        "error": {
            "message": behaviour.error_message,
            "type": behaviour.error_type,
            "param": None,
            "code": behaviour.error_code,
        }
    }


def build_stream(behaviour: Behaviour, call: Call) -> Iterator[Event]:
    """Yield the events of a streamed answer, `[DONE]` last; without end when the behaviour is endless."""
    return insert_extras(behaviour, _answer_events(behaviour, call))


def insert_extras(behaviour: Behaviour, events: Iterator[Event]) -> Iterator[Event]:
    """Yield events with those that the behaviour injects among them."""
    extras = sorted(behaviour.inject, key=lambda extra: extra.at)
    for position in itertools.count():
        if extras and extras[0].at <= position:
            yield _injected(extras.pop(0))
        elif event := next(events, None):
            yield event
        elif extras:
            # Past the end of the answer: what was asked for is still sent.
            yield _injected(extras.pop(0))
        else:
            return


def _injected(extra: Inject) -> Event:
    return Event(kind=EventKind.INJECTED, data=extra.data, name=extra.name)


def _answer_events(behaviour: Behaviour, call: Call) -> Iterator[Event]:
    place = behaviour.usage_place
    if not (call.include_usage or behaviour.usage_unasked):
        place = UsagePlace.NOWHERE
    last_content = sum(1 for _ in content_pieces(behaviour, endless=False)) - 1
    role: Delta = {"role": "assistant"}
    contents = 0
    for kind, body in _deltas(behaviour):
        delta = role | body
        role = {}
        usage = None
        if kind is EventKind.CONTENT:
            contents += 1
            if place is UsagePlace.LAST_CONTENT and contents - 1 == last_content:
                usage = _total_usage(behaviour, call)
        if place is UsagePlace.EVERY_EVENT:
            usage = behaviour.usage or _count_usage(behaviour, call, content_events=contents)
        for index in range(call.choices):
            yield _chunk(behaviour, call, kind=kind, index=index, delta=delta, usage=usage)
    yield from _ending(behaviour, call, place=place)


def _ending(behaviour: Behaviour, call: Call, *, place: UsagePlace) -> Iterator[Event]:
    reason = _finish_reason(behaviour)
    if reason is not None:
        carries_usage = place in (UsagePlace.FINISH_EVENT, UsagePlace.EVERY_EVENT)
        usage = _total_usage(behaviour, call) if carries_usage else None
        for index in range(call.choices):
            yield _chunk(
                behaviour,
                call,
                kind=EventKind.FINISH,
                index=index,
                delta={},
                usage=usage,
                finish_reason=reason,
            )
    if place is UsagePlace.OWN_EVENT:
        yield _chunk(behaviour, call, kind=EventKind.USAGE, index=None, usage=_total_usage(behaviour, call))
    if behaviour.done:
        yield Event(kind=EventKind.DONE, data="[DONE]")


def _deltas(behaviour: Behaviour) -> Iterator[tuple[EventKind, Delta]]:
    if behaviour.role_event:
        yield EventKind.DELTA, {"content": ""}
    for thought in behaviour.reasoning:
        yield EventKind.DELTA, {"reasoning_content": thought}
    for piece in content_pieces(behaviour, endless=behaviour.endless):
        yield EventKind.CONTENT, {"content": piece}
    for index, tool in enumerate(behaviour.tool_calls):
        half = len(tool.arguments) // 2
        opening = {
            "index": index,
            "id": tool.id,
            "type": "function",
            "function": {"name": tool.name, "arguments": ""},
        }
        yield EventKind.DELTA, {"tool_calls": [opening]}
        for part in (tool.arguments[:half], tool.arguments[half:]):
            yield EventKind.DELTA, {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def _chunk(
    behaviour: Behaviour,
    call: Call,
    *,
    kind: EventKind,
    index: int | None,
    delta: Delta | None = None,
    usage: JsonObject | None = None,
    finish_reason: str | None = None,
) -> Event:
    chunk = _envelope(behaviour, call, kind="chat.completion.chunk")
    chunk["choices"] = []
    if index is not None:
        choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish_reason}
        chunk["choices"] = [choice]
    # OpenAI sends `usage: null` in the other events, but only to those who asked for usage.
    if usage is not None or call.include_usage:
        chunk["usage"] = usage
    return Event(kind=kind, data=encode_json(chunk))


def encode_json(value: JsonObject) -> str:
    """Encode as providers do: compact, and with characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

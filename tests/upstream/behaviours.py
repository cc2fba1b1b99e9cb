"""What the scripted upstream does with one request: frozen values, composed from small fields.

A `Behaviour` with no arguments is a correct provider. Each field bends one thing, and fields combine: an
answer can be slow, lie about its usage and be cut in the middle of an event at once. `presets.py` names the
usual combinations.

Positions in an answer are `Point`s. Events are counted as they go over the wire, from 0, `[DONE]` and
injected events included, comments not; so the integer k means "k events are out, the next one is not". A body
that is not a stream counts as one event. A named point stands before the event that it names ("finish",
"usage" and "done" are events of a stream); "end" is after the last event and before the end of the body. A
point that the answer never reaches does nothing.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias, get_args

# Payloads are free-form on purpose: scripts must be able to say what no schema allows.
JsonObject: TypeAlias = Mapping[str, Any]

NamedPoint: TypeAlias = Literal["head", "first_event", "finish", "usage", "done", "end"]
Point: TypeAlias = int | NamedPoint


class Cut(StrEnum):
    """How an answer breaks off."""

    # FIN without the end of the body: HTTP clients see a truncated payload.
    CLOSE = "close"
    # RST. It may overtake bytes that the client has not read yet.
    RESET = "reset"
    # A valid end of the HTTP body: only the dialect shows that something is missing. Streams only; a body
    # whose length was promised in the head is cut as by CLOSE.
    FINISH = "finish"


class UsagePlace(StrEnum):
    """Where a stream carries its usage."""

    OWN_EVENT = "own_event"
    FINISH_EVENT = "finish_event"
    LAST_CONTENT = "last_content"
    # Running totals in every event, as vLLM's continuous usage does.
    EVERY_EVENT = "every_event"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One tool call of the answer; `arguments` is sent as given, valid JSON or not."""

    name: str
    arguments: str = "{}"
    id: str = "call_scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """One extra event of a stream, put in so that it becomes event number `at`."""

    at: int
    data: str
    # The SSE `event:` field; left out when None.
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How to answer one request. Raises ValueError for a position that does not exist."""

    # --- the answer ---
    # None: deterministic words, `events` times `tokens_per_event` of them. Else cut into `events` pieces.
    text: str | None = None
    events: int = 4
    tokens_per_event: int = 1
    # Content events without end, until the client goes away.
    endless: bool = False
    # A separate first event that carries the role alone, as OpenAI sends it. Else it rides on the first one.
    role_event: bool = False
    # `reasoning_content` deltas, sent before the content.
    reasoning: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    # "auto": stop, or tool_calls when there are any. None: no reason and, in a stream, no finish event.
    finish_reason: str | None = "auto"
    # The model that the answer names; None: the one asked for.
    model: str | None = None
    # The tier of processing that the answer names; None: says nothing about it.
    service_tier: str | None = None

    # --- usage ---
    # None: counted honestly. Any other object is sent as it is, which is how to lie.
    usage: JsonObject | None = None
    usage_place: UsagePlace = UsagePlace.OWN_EVENT
    # Send usage in a stream though `stream_options.include_usage` was not asked for.
    usage_unasked: bool = False

    # --- the HTTP head, and bodies that are no answer ---
    # Other than 200: an OpenAI-shaped error body, unless `body` says otherwise.
    status: int = 200
    error_message: str = "scripted error"
    error_type: str = "server_error"
    error_code: str | None = None
    # Replaces the whole body, errors included.
    body: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    # None: obey the request's `stream`. True or False: answer that way whatever was asked.
    streams: bool | None = None

    # --- time ---
    head_delay_seconds: float = 0.0
    first_event_delay_seconds: float = 0.0
    event_delay_seconds: float = 0.0

    # --- stalls and cuts; at the same point the hold comes first ---
    # Stop here until `release()`, or until the client closes.
    hold_at: Point | None = None
    cut_at: Point | None = None
    cut: Cut = Cut.CLOSE
    # Send the first half of the event's bytes, then cut. Not for "head" and "end", where no event follows.
    cut_inside: bool = False

    # --- framing of a stream ---
    done: bool = True
    line_ending: str = "\n"
    data_prefix: str = "data: "
    # A comment block before every event.
    comments: bool = False
    inject: tuple[Inject, ...] = ()
    events_per_write: int = 1
    # Bytes a write; small odd numbers split lines, and multi-byte characters, over writes and HTTP chunks.
    write_bytes: int | None = None

    def __post_init__(self) -> None:
        for point in (self.hold_at, self.cut_at):
            named = isinstance(point, str)
            if (named and point not in get_args(NamedPoint)) or (isinstance(point, int) and point < 0):
                raise ValueError(f"no such point in an answer: {point!r}")
        if self.cut_inside and self.cut_at in (None, "head", "end"):
            raise ValueError("cut_inside needs cut_at to name an event")
        if self.events < 0 or self.events_per_write < 1 or (self.write_bytes or 1) < 1:
            raise ValueError("events, events_per_write and write_bytes are counts")


def parse_behaviour(document: JsonObject) -> Behaviour:
    """Read a behaviour from its JSON form: the field names as they are, every field optional.

    Raises ValueError for a field, an enum value or a position that does not exist, so that a mistyped script
    fails instead of passing as a healthy upstream.
    """
    known = {item.name for item in dataclasses.fields(Behaviour)}
    if unknown := sorted(set(document) - known):
        raise ValueError(f"unknown behaviour fields: {', '.join(unknown)}")
    values = dict(document)
    try:
        if "tool_calls" in values:
            values["tool_calls"] = tuple(ToolCall(**call) for call in values["tool_calls"])
        if "inject" in values:
            values["inject"] = tuple(Inject(**event) for event in values["inject"])
        if "reasoning" in values:
            values["reasoning"] = tuple(values["reasoning"])
        if "usage_place" in values:
            values["usage_place"] = UsagePlace(values["usage_place"])
        if "cut" in values:
            values["cut"] = Cut(values["cut"])
        return Behaviour(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error


def render_behaviour(behaviour: Behaviour) -> JsonObject:
    """Write a behaviour as JSON values, the inverse of `parse_behaviour`."""
    return dataclasses.asdict(behaviour)

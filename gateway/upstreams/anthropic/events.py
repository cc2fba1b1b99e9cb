"""The stream: Anthropic's events as OpenAI's chunks.

https://platform.claude.com/docs/en/build-with-claude/streaming (2026-11): message_start, then for each block
content_block_start, deltas and content_block_stop, then message_delta (stop reason, usage) and message_stop. The
finish reason is handed out with message_stop only: a stream that ends before it is not whole. Events and blocks of
unknown kinds are passed over, as the page asks.
"""

import time
from collections.abc import Mapping
from typing import Any

import orjson

from billing.tokens import TokenCounts
from billing.usage import split_anthropic_usage
from gateway.errors import UpstreamError, UpstreamInvalidAnswer
from gateway.upstreams.anthropic.answers import finish_reason, refusal_of
from gateway.upstreams.anthropic.errors import error_of_object
from gateway.upstreams.anthropic.usage import merge_usage, translate_usage
from gateway.upstreams.dialect import Event, parse_object
from gateway.upstreams.events import EventSplitter

_MALFORMED = (AttributeError, KeyError, TypeError, ValueError)


def open_reader() -> "MessageReader":
    """Return the reader of one stream."""
    return MessageReader(created=int(time.time()))


class MessageReader:
    """Reads one stream; a state of few numbers, as blocks come one after the other."""

    def __init__(self, *, created: int) -> None:
        self.is_done = False
        self.error: UpstreamError | None = None
        self.known_input: TokenCounts | None = None
        self._splitter = EventSplitter()
        self._envelope: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": created, "model": ""}
        self._has_started = False
        self._tools = 0
        self._block_is_tool = False
        self._has_arguments = False
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._refusal: str | None = None

    def feed(self, piece: bytes) -> list[Event]:
        """Return the chunks that the events of a piece off the wire amount to."""
        chunks: list[dict[str, Any]] = []
        try:
            for data in self._splitter.feed(piece):
                self._read(parse_object(data), chunks)
                if self.is_done:
                    break
        except UpstreamError as error:
            self.error = error
        except _MALFORMED as error:
            self.error = UpstreamInvalidAnswer(internal_detail=f"unreadable event: {error!r}")
        return [(orjson.dumps(chunk), chunk) for chunk in chunks]

    def _read(self, event: dict[str, Any], chunks: list[dict[str, Any]]) -> None:
        kind = event["type"]
        if kind == "error":
            raise error_of_object(event)
        if not self._has_started and kind not in ("message_start", "ping"):
            raise UpstreamInvalidAnswer(internal_detail=f"{kind} before message_start")
        delta: dict[str, Any] | None = None
        match kind:
            case "message_start":
                self._start(event["message"])
                delta = {"role": "assistant", "content": ""}
            case "content_block_start":
                delta = self._open_block(event["content_block"])
            case "content_block_delta":
                delta = self._read_delta(event["delta"])
            case "content_block_stop":
                delta = self._close_block()
            case "message_delta":
                self._note_end(event)
            case "message_stop":
                chunks += self._end()
        if delta:
            chunks.append(self._chunk(delta))

    def _start(self, message: Mapping[str, Any]) -> None:
        self._has_started = True
        self._envelope["id"], self._envelope["model"] = message["id"], message["model"]
        self._usage = merge_usage({}, message.get("usage"))
        # Its output is that of the first token: only the input is known by now.
        found = split_anthropic_usage({**self._usage, "output_tokens": 0, "output_tokens_details": None})
        self.known_input = None if found is None else found.tokens

    def _open_block(self, block: Mapping[str, Any]) -> dict[str, Any] | None:
        self._block_is_tool = block["type"] == "tool_use"
        if self._block_is_tool:
            self._tools += 1
            # Some servers say it whole; Anthropic itself begins with an empty one.
            given = orjson.dumps(block["input"]).decode() if block.get("input") else ""
            self._has_arguments = bool(given)
            return self._call_delta({"name": block["name"], "arguments": given}, call_id=block["id"])
        if block["type"] == "text" and block["text"]:
            return {"content": block["text"]}
        return None

    def _read_delta(self, delta: Mapping[str, Any]) -> dict[str, Any] | None:
        match delta["type"]:
            case "text_delta":
                return {"content": delta["text"]}
            case "thinking_delta":
                return {"reasoning_content": delta["thinking"]}
            case "input_json_delta" if self._block_is_tool and delta["partial_json"]:
                self._has_arguments = True
                return self._call_delta({"arguments": delta["partial_json"]})
            case _:
                return None

    def _close_block(self) -> dict[str, Any] | None:
        is_bare_call, self._block_is_tool = self._block_is_tool and not self._has_arguments, False
        # A call without arguments has an empty object for them: an empty text is no JSON.
        return self._call_delta({"arguments": "{}"}) if is_bare_call else None

    def _call_delta(self, function: dict[str, Any], *, call_id: str | None = None) -> dict[str, Any]:
        call: dict[str, Any] = {"index": self._tools - 1}
        if call_id is not None:
            call |= {"id": call_id, "type": "function"}
        return {"tool_calls": [{**call, "function": function}]}

    def _note_end(self, event: Mapping[str, Any]) -> None:
        self._usage = merge_usage(self._usage, event.get("usage"))
        delta = event["delta"]
        self._stop_reason = delta.get("stop_reason") or self._stop_reason
        self._refusal = refusal_of(delta.get("stop_details"))

    def _end(self) -> list[dict[str, Any]]:
        """Return the last chunks: why it ended, and its usage."""
        self.is_done = True
        if self._stop_reason is None:
            # Nobody said that it was over: without a finish reason the stream counts as broken off.
            return []
        reason = finish_reason(self._stop_reason)
        last = self._chunk({} if self._refusal is None else {"refusal": self._refusal}, reason)
        return [last, {**self._envelope, "choices": [], "usage": translate_usage(self._usage)}]

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._envelope, "choices": [choice]}

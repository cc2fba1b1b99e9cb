"""Answers in the form before tools: for who sent `functions`, tool calls become `function_call`.

Of each choice the first call alone: the old form has room for one, and the models of its time made no second.
"""

from typing import Any

import orjson

Json = dict[str, Any]
# A chunk: JSON as it came, and parsed.
Chunk = tuple[bytes, Json]

_REASONS = {"tool_calls": "function_call"}


def rename_reason(reason: str) -> str:
    """Return a finish reason in the words of the old form."""
    return _REASONS.get(reason, reason)


def rewrite_completion(body: bytes) -> bytes:
    """Return a whole completion in the old form: the same bytes where it calls nothing."""
    completion = orjson.loads(body)
    rewriter = ChunkRewriter()
    choices = [rewriter.rewrite_choice(choice, "message") for choice in completion["choices"]]
    return body if choices == completion["choices"] else orjson.dumps({**completion, "choices": choices})


class ChunkRewriter:
    """Rewrites one answer, piece by piece."""

    def __init__(self) -> None:
        # Of each choice, index and id of its first call.
        self._first: dict[int, tuple[int, str | None]] = {}

    def rewrite(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return chunks in the old form; a chunk that only speaks of further calls is left out."""
        found: list[Chunk] = []
        for raw, parsed in chunks:
            choices = [self.rewrite_choice(choice, "delta") for choice in parsed["choices"]]
            if choices == parsed["choices"]:
                found.append((raw, parsed))
            elif any(choice.get("delta") or choice.get("finish_reason") for choice in choices) or parsed.get("usage"):
                now = {**parsed, "choices": choices}
                found.append((orjson.dumps(now), now))
        return found

    def rewrite_choice(self, choice: Json, part: str) -> Json:
        """Return a choice in the old form; `part` is where its message is: "message", or "delta" for a piece."""
        message, reason = choice.get(part) or {}, choice.get("finish_reason")
        changed = dict(choice)
        if message.get("tool_calls"):
            rest = {name: value for name, value in message.items() if name not in ("tool_calls", "function_call")}
            function = self._function_of(choice.get("index", 0), message["tool_calls"])
            changed[part] = {**rest, "function_call": function} if function else rest
        if reason in _REASONS:
            changed["finish_reason"] = _REASONS[reason]
        return changed

    def _function_of(self, index: int, calls: list[Json]) -> Json:
        """Return what is said of the first call; empty where it is others that are spoken of."""
        function: Json = {}
        for place, call in enumerate(calls):
            if not self._is_first(index, call.get("index", place), call.get("id")):
                continue
            for name, value in (call.get("function") or {}).items():
                said = function.get(name)
                if value is not None:
                    # A server may put two pieces of a call into one chunk.
                    function[name] = said + value if isinstance(said, str) and isinstance(value, str) else value
        return function

    def _is_first(self, index: int, place: int, call_id: str | None) -> bool:
        first_place, first_id = self._first.setdefault(index, (place, call_id))
        # Some servers give every call the index 0, and only the id tells them apart.
        return place == first_place and (not call_id or not first_id or call_id == first_id)

"""What may this answer say? Its texts pass through windows that hold back what has not been decided.

What rules cannot look into is left out of an answer that is checked: log-probabilities and sound repeat the text, and
of a field that is not known here nobody knows what it says. An answer that only gets something put back is not cut.
"""

import asyncio
from typing import Any

import orjson

from gateway.flight import Chunk, Flight
from gateway.guards.errors import AnswerBlocked
from gateway.guards.said import TEXT_FIELDS
from gateway.guards.screening import Screening, answer_window
from gateway.guards.values import Surface
from gateway.guards.windows import TextBlocked, Window

_KEPT = frozenset({*TEXT_FIELDS, "role", "tool_calls", "function_call", "annotations"})
_MOST_INLINE_BYTES = 16_000
_JSON_FORMATS = ("json_schema", "json_object")

# Names of fields and positions in lists, from the message down.
_Path = tuple[str | int, ...]


def open_screen(flight: Flight) -> "AnswerScreen | None":
    """Return what the present attempt's answer goes through, or None where it passes as it is."""
    screening, call = flight.exchange.screening, flight.exchange.call
    assert call is not None
    if screening is None or not screening.changes_answers:
        return None
    response_format = call.body.get("response_format") or {}
    is_json = call.contract is not None or response_format.get("type") in _JSON_FORMATS
    return AnswerScreen(screening, is_json=is_json)


class AnswerScreen:
    """Checks one answer, whole or as a stream. One that was blocked has its error in `error`."""

    def __init__(self, screening: Screening, *, is_json: bool) -> None:
        """`is_json`: the content is JSON, and what is put back into it has to be escaped."""
        self._screening = screening
        self._is_json = is_json
        self._is_checked = Surface.ANSWER in screening.guard
        # Of each choice, by where in its message the text is.
        self._windows: dict[int, dict[_Path, Window]] = {}
        self.error: AnswerBlocked | None = None

    def is_blocked(self) -> bool:
        """Return whether nothing more may be said."""
        return self.error is not None

    # ---- whole answers

    async def read_completion(self, raw: bytes, completion: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
        """Return the completion as the customer may have it. Raises AnswerBlocked."""
        if len(raw) <= _MOST_INLINE_BYTES:
            choices = self._check_choices(completion["choices"])
        else:
            choices = await asyncio.to_thread(self._check_choices, completion["choices"])
        if choices == completion["choices"]:
            return raw, completion
        changed = {**completion, "choices": choices}
        return orjson.dumps(changed), changed

    def _check_choices(self, choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for choice in choices:
            message = self._change(choice, choice.get("message") or {}, is_end=True)
            if self.error is not None:
                raise self.error
            found.append(self._without_unknown(choice, "message", message))
        return found

    # ---- streams

    def read_chunks(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return what may go out now; once something is blocked, that is what came before it."""
        found: list[Chunk] = []
        for raw, parsed in chunks:
            if self.is_blocked():
                break
            found += self._read_chunk(raw, parsed)
        return found

    def _read_chunk(self, raw: bytes, parsed: dict[str, Any]) -> list[Chunk]:
        found: list[Chunk] = []
        choices = []
        for choice in parsed["choices"]:
            delta = choice.get("delta") or {}
            changed = self._change(choice, delta, is_end=False)
            choice_now = self._without_unknown(choice, "delta", changed)
            if self.is_blocked():
                # Whatever else the choice says belongs to what is blocked.
                choices.append({**choice_now, "finish_reason": None})
                break
            if choice.get("finish_reason"):
                # The text of this event comes before what ends the choice, and what was held back between them.
                tails = self._flush(choice.get("index", 0))
                if tails or self.is_blocked():
                    found += [_chunk_of(parsed, choice, part) for part in (choice_now.get("delta"), *tails) if part]
                    choice_now = {**choice_now, "delta": {}}
                if self.is_blocked():
                    break
            choices.append(choice_now)
        if choices == parsed["choices"]:
            return [*found, (raw, parsed)]
        if any(_says_something(choice) for choice in choices) or parsed.get("usage"):
            now = {**parsed, "choices": choices}
            found.append((orjson.dumps(now), now))
        return found

    def _flush(self, index: int) -> list[dict[str, Any]]:
        """Return what was held back of a choice, as deltas."""
        deltas = []
        for path, window in self._windows.pop(index, {}).items():
            text = self._feed(window, "", is_end=True)
            if text:
                deltas.append(_delta_at(path, text))
            if self.is_blocked():
                break
        return deltas

    # ---- both

    def _change(self, choice: dict[str, Any], message: dict[str, Any], *, is_end: bool) -> dict[str, Any]:
        """Return a message, or a piece of one, with what may be said of it now."""
        index = choice.get("index", 0)
        changed = dict(message)
        for name in TEXT_FIELDS:
            text = message.get(name)
            if text and isinstance(text, str):
                changed[name] = self._pass(index, (name,), text, is_end=is_end)
                if not changed[name]:
                    del changed[name]
        function = message.get("function_call")
        if function and function.get("arguments"):
            arguments = self._pass(index, ("function_call", "arguments"), function["arguments"], is_end=is_end)
            changed["function_call"] = {**function, "arguments": arguments}
        calls = message.get("tool_calls")
        if calls:
            changed["tool_calls"] = [
                self._change_tool_call(index, call, call.get("index", place), is_end=is_end)
                for place, call in enumerate(calls)
            ]
        return changed

    def _change_tool_call(self, index: int, call: dict[str, Any], place: int, *, is_end: bool) -> dict[str, Any]:
        for kind, name in (("function", "arguments"), ("custom", "input")):
            text = (call.get(kind) or {}).get(name)
            if text:
                new = self._pass(index, ("tool_calls", place, kind, name), text, is_end=is_end)
                call = {**call, kind: {**call[kind], name: new}}
        return call

    def _pass(self, index: int, path: _Path, text: str, *, is_end: bool) -> str:
        if self.is_blocked():
            return ""
        windows = self._windows.setdefault(index, {})
        window = windows.get(path)
        if window is None:
            is_json = path[-1] == "arguments" or (path == ("content",) and self._is_json)
            place = f"choices[{index}].{_place(path)}"
            window = windows[path] = answer_window(self._screening, place, is_json=is_json)
        return self._feed(window, text, is_end=is_end)

    def _feed(self, window: Window, text: str, *, is_end: bool) -> str:
        try:
            return window.feed(text, is_end=is_end)
        except TextBlocked as blocked:
            self._screening.notes.add(blocked.finding)
            self.error = AnswerBlocked(finding=blocked.finding)
            return blocked.released

    def _without_unknown(self, choice: dict[str, Any], name: str, message: dict[str, Any]) -> dict[str, Any]:
        if not self._is_checked:
            return {**choice, name: message} if name in choice else choice
        # A text that is no text (parts, as some providers answer) was not looked into.
        kept = {
            key: value
            for key, value in message.items()
            if key in _KEPT and (key not in TEXT_FIELDS or value is None or isinstance(value, str))
        }
        found = {**choice, name: kept} if name in choice else dict(choice)
        if found.get("logprobs"):
            found["logprobs"] = None
        return found


def _place(path: _Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _delta_at(path: _Path, text: str) -> dict[str, Any]:
    if len(path) == 1:
        return {str(path[0]): text}
    if path[0] == "function_call":
        return {"function_call": {"arguments": text}}
    _, place, kind, name = path
    return {"tool_calls": [{"index": place, str(kind): {str(name): text}}]}


def _chunk_of(parsed: dict[str, Any], choice: dict[str, Any], delta: dict[str, Any]) -> Chunk:
    """Return a chunk with a piece of one choice that came before the chunk that ends it."""
    piece = {"index": choice.get("index", 0), "delta": delta, "finish_reason": None}
    now = {key: value for key, value in parsed.items() if key != "usage"} | {"choices": [piece]}
    return orjson.dumps(now), now


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice.get("delta") or choice.get("finish_reason"))

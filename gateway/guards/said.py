"""What an answer says, text by text: of a whole one, or of the pieces of a stream put together.

Reads what `gateway.stages.screen_answer` lets through, where every text has one of the fields that are known there.
"""

from collections.abc import Iterable
from typing import Any

from gateway.guards.texts import Text
from gateway.guards.values import Surface

# Fields of a message that are texts.
TEXT_FIELDS = ("content", "refusal", "reasoning_content", "reasoning")


class AnswerTexts:
    """The texts of all choices of one answer, in the order in which they began."""

    def __init__(self) -> None:
        # By place: "choices[0].content".
        self._parts: dict[str, list[str]] = {}

    def read_chunk(self, chunk: dict[str, Any]) -> None:
        """Take one event of a stream in."""
        for choice in chunk["choices"]:
            self._read(choice, choice.get("delta") or {})

    def read_completion(self, completion: dict[str, Any]) -> None:
        """Take a whole completion in."""
        for choice in completion["choices"]:
            self._read(choice, choice.get("message") or {})

    def texts(self) -> list[Text]:
        """Return the texts."""
        return [Text(Surface.ANSWER, place, "".join(parts)) for place, parts in self._parts.items()]

    def _read(self, choice: dict[str, Any], message: dict[str, Any]) -> None:
        place = f"choices[{choice.get('index', 0)}]"
        for name in TEXT_FIELDS:
            self._add(f"{place}.{name}", [message.get(name)])
        function = message.get("function_call")
        if function:
            self._add(f"{place}.function_call", [function.get("name"), function.get("arguments")])
        for number, call in enumerate(message.get("tool_calls") or ()):
            kind, name = ("custom", "input") if call.get("custom") else ("function", "arguments")
            called = call.get(kind) or {}
            self._add(f"{place}.tool_calls[{call.get('index', number)}]", [called.get("name"), called.get(name)])

    def _add(self, place: str, texts: Iterable[object]) -> None:
        found = [text for text in texts if isinstance(text, str) and text]
        if found:
            self._parts.setdefault(place, []).extend(found)

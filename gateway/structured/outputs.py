"""The text of an answer, choice by choice, collected only for calls that have to fit a schema."""

from typing import Any


class ChoiceText:
    """One choice of an answer so far."""

    __slots__ = ("_parts", "calls_tools", "finish_reason", "refusal")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.refusal = ""
        self.finish_reason = ""
        self.calls_tools = False

    @property
    def text(self) -> str:
        """Return the text so far; joined once for each piece that has come since."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def read(self, message: dict[str, Any], finish_reason: object) -> None:
        """Take in a message, or the part of one that a chunk carries."""
        content = message.get("content")
        if isinstance(content, str) and content:
            self._parts.append(content)
        refusal = message.get("refusal")
        if isinstance(refusal, str):
            self.refusal += refusal
        self.calls_tools |= bool(message.get("tool_calls") or message.get("function_call"))
        if finish_reason:
            self.finish_reason = str(finish_reason)


class OutputText:
    """All choices of one answer; reads parsed chunks, or the one completion, as they pass."""

    def __init__(self) -> None:
        self.choices: dict[int, ChoiceText] = {}

    @property
    def first(self) -> ChoiceText:
        """Return the only choice of a call that asked for one; empty where none has come."""
        return next(iter(self.choices.values())) if self.choices else ChoiceText()

    def read_chunk(self, chunk: dict[str, Any]) -> None:
        """Take one chunk in."""
        for choice in chunk["choices"]:
            self._choice(choice).read(choice.get("delta") or {}, choice.get("finish_reason"))

    def read_completion(self, completion: dict[str, Any]) -> None:
        """Take a whole completion in."""
        for choice in completion["choices"]:
            self._choice(choice).read(choice.get("message") or {}, choice.get("finish_reason"))

    def _choice(self, choice: dict[str, Any]) -> ChoiceText:
        index = choice.get("index", 0)
        found = self.choices.get(index)
        if found is None:
            found = self.choices[index] = ChoiceText()
        return found

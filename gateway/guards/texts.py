"""Where the texts of a call are, and whose words they are.

Images, sound and files are not texts, and nobody looks into them here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.guards.values import Surface
from prompts.json_values import JsonObject, JsonValue

_SURFACES = {
    "system": Surface.SYSTEM,
    "developer": Surface.SYSTEM,
    "tool": Surface.TOOL,
    "function": Surface.TOOL,
}


class Text(NamedTuple):
    """One text of a call's input."""

    surface: Surface
    # As a caller writes it: "messages[2].content".
    place: str
    text: str
    # What is put into it has to be escaped.
    is_json: bool = False


# Returns the text that takes its place; the same one: nothing changes.
Change = Callable[[Text], str]


def change_body(body: dict[str, Any], change: Change) -> dict[str, Any]:
    """Return a chat body with its texts changed: the same object where none is."""
    changed: dict[str, Any] = {}
    messages = change_messages(body["messages"], change)
    if messages is not body["messages"]:
        changed["messages"] = messages
    prediction = body.get("prediction")
    if prediction:
        content = _change_content(prediction.get("content"), Surface.USER, "prediction.content", change)
        if content is not prediction.get("content"):
            changed["prediction"] = {**prediction, "content": content}
    return {**body, **changed} if changed else body


def change_messages(messages: list[dict[str, Any]], change: Change) -> list[dict[str, Any]]:
    """Return messages with their texts changed: the same list where none is."""
    found = [_change_message(message, f"messages[{index}]", change) for index, message in enumerate(messages)]
    return found if any(new is not old for new, old in zip(found, messages, strict=True)) else messages


def change_inputs(inputs: JsonObject, change: Change) -> JsonObject:
    """Return a prompt's inputs with their texts changed; they are the user's words."""
    return {name: _change_value(value, f"inputs.{name}", change) for name, value in inputs.items()}


def _change_value(value: JsonValue, place: str, change: Change) -> JsonValue:
    if isinstance(value, str):
        return change(Text(Surface.USER, place, value))
    if isinstance(value, list):
        return [_change_value(item, f"{place}[{index}]", change) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _change_value(item, f"{place}.{name}", change) for name, item in value.items()}
    return value


def _change_message(message: dict[str, Any], place: str, change: Change) -> dict[str, Any]:
    surface = _SURFACES.get(message["role"], Surface.USER)
    changed: dict[str, Any] = {}
    content = message.get("content")
    if content:
        new = _change_content(content, surface, f"{place}.content", change)
        if new is not content:
            changed["content"] = new
    if surface is Surface.USER:
        _change_rest(message, place, change, changed)
    return {**message, **changed} if changed else message


def _change_content(content: Any, surface: Surface, place: str, change: Change) -> Any:
    if isinstance(content, str):
        return change(Text(surface, place, content))
    parts = []
    is_changed = False
    for index, part in enumerate(content or ()):
        name = "refusal" if part.get("type") == "refusal" else "text"
        text = part.get(name)
        new = change(Text(surface, f"{place}[{index}]", text)) if isinstance(text, str) else text
        is_changed |= new is not text
        parts.append(part if new is text else {**part, name: new})
    return parts if is_changed else content


def _change_rest(message: dict[str, Any], place: str, change: Change, changed: dict[str, Any]) -> None:
    """Change what only earlier answers have: refusals, and arguments of the tools that they called."""
    refusal = message.get("refusal")
    if refusal:
        new = change(Text(Surface.USER, f"{place}.refusal", refusal))
        if new is not refusal:
            changed["refusal"] = new
    calls = message.get("tool_calls")
    if calls:
        found = [_change_call(call, f"{place}.tool_calls[{index}]", change) for index, call in enumerate(calls)]
        if any(new is not old for new, old in zip(found, calls, strict=True)):
            changed["tool_calls"] = found
    function = message.get("function_call")
    if function:
        new = change(Text(Surface.USER, f"{place}.function_call", function["arguments"], is_json=True))
        if new is not function["arguments"]:
            changed["function_call"] = {**function, "arguments": new}


def _change_call(call: dict[str, Any], place: str, change: Change) -> dict[str, Any]:
    kind, name = ("custom", "input") if call.get("type") == "custom" else ("function", "arguments")
    text = call[kind][name]
    new = change(Text(Surface.USER, place, text, is_json=kind == "function"))
    return call if new is text else {**call, kind: {**call[kind], name: new}}

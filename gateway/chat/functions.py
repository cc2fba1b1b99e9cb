"""Functions, the form before tools: what a call says in it, said with tools.

A call has `functions` and `function_call`; its history has assistant messages with a `function_call` and messages of
the role `function`, without an id that would join them: a result answers the call right before it. Tools are stricter
(providers refuse a call without a result behind it, and the other way round), so what is missing is put in: an empty
result, or a call without arguments. Ids are counted, so that the same history is the same call.
"""

from collections.abc import Iterable
from typing import Any

Body = dict[str, Any]
Message = dict[str, Any]


def use_tools(body: Body) -> None:
    """Replace the `functions` of a body, whose parameters do not contradict each other, by `tools`.

    The old form has room for one call in an answer, so several at once are switched off.
    """
    body["tools"] = [_tool_of(function) for function in body.pop("functions")]
    body["parallel_tool_calls"] = False
    choice = body.pop("function_call", None)
    if choice is not None:
        body["tool_choice"] = choice if isinstance(choice, str) else {"type": "function", "function": choice}


def has_functions(messages: Iterable[Message]) -> bool:
    """Return whether a history says anything in the old form."""
    return any(message["role"] == "function" or message.get("function_call") for message in messages)


def use_tool_messages(messages: list[Message]) -> list[Message]:
    """Return a history with the messages of the old form said with tools, in their places; nothing is changed."""
    found: list[Message] = []
    # The call whose result has not come yet.
    pending: str | None = None
    number = 0
    for message in messages:
        is_result = message["role"] == "function"
        if pending is not None and not is_result:
            found.append(_result_of(pending, ""))
            pending = None
        if is_result:
            if pending is None:
                number += 1
                pending = _call_id(number)
                found.append(_calling({"role": "assistant", "content": None}, pending, message["name"], "{}"))
            found.append(_result_of(pending, message.get("content") or ""))
            pending = None
        elif message.get("function_call"):
            number += 1
            pending = _call_id(number)
            call = message["function_call"]
            found.append(_calling(message, pending, call["name"], call["arguments"]))
        else:
            found.append(message)
    if pending is not None:
        found.append(_result_of(pending, ""))
    return found


def _tool_of(function: Body) -> Body:
    """Return the tool of a function; a mark for caching, which is no part of its description, stands beside it."""
    tool: Body = {"type": "function", "function": function}
    if "cache_control" in function:
        tool["function"] = {name: value for name, value in function.items() if name != "cache_control"}
        tool["cache_control"] = function["cache_control"]
    return tool


def _call_id(number: int) -> str:
    # Nine letters and digits: the only form that every provider takes (Mistral wants exactly these).
    return f"call{number:05}"


def _calling(message: Message, call_id: str, name: str, arguments: str) -> Message:
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    rest = {key: value for key, value in message.items() if key != "function_call"}
    return {**rest, "tool_calls": [call]}


def _result_of(call_id: str, content: str) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}

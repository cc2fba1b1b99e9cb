"""A history in the form before tools becomes one that providers take: each call has its result right behind it."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter

from gateway.chat.functions import has_functions, use_tool_messages, use_tools

USER = {"role": "user", "content": "hi"}
SHAPE: TypeAdapter[Any] = TypeAdapter(ChatCompletionMessageParam)


def calls(name: str, arguments: str = "{}", **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **fields, "function_call": {"name": name, "arguments": arguments}}


def result(name: str, content: str | None = "sunny") -> dict[str, Any]:
    return {"role": "function", "name": name, "content": content}


def tool_call(call_id: str, name: str, arguments: str = "{}", **fields: Any) -> dict[str, Any]:
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, **fields, "tool_calls": [call]}


def tool_result(call_id: str, content: str = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_calls_and_results_get_ids_by_their_number_and_keep_what_else_they_say() -> None:
    history = [
        USER,
        calls("look", '{"at": 1}', content="Well.", refusal=None),
        result("look"),
        calls("see"),
        result("see"),
    ]
    assert use_tool_messages(history) == [
        USER,
        tool_call("call00001", "look", '{"at": 1}', content="Well.", refusal=None),
        tool_result("call00001"),
        tool_call("call00002", "see"),
        tool_result("call00002"),
    ]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        # Nobody answered it.
        ([calls("look"), USER], [tool_call("call00001", "look"), tool_result("call00001", ""), USER]),
        ([calls("look")], [tool_call("call00001", "look"), tool_result("call00001", "")]),
        # Nobody asked for it.
        ([USER, result("look")], [USER, tool_call("call00001", "look"), tool_result("call00001")]),
        (
            [calls("look"), result("look"), result("see")],
            [
                tool_call("call00001", "look"),
                tool_result("call00001"),
                tool_call("call00002", "see"),
                tool_result("call00002"),
            ],
        ),
        # Something came between.
        (
            [calls("look"), USER, result("look")],
            [
                tool_call("call00001", "look"),
                tool_result("call00001", ""),
                USER,
                tool_call("call00002", "look"),
                tool_result("call00002"),
            ],
        ),
        ([calls("look"), result("look", None)], [tool_call("call00001", "look"), tool_result("call00001", "")]),
    ],
)
def test_what_is_missing_is_put_in(history: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert use_tool_messages(history) == expected


def test_messages_with_tools_stay_as_they_are() -> None:
    history = [USER, tool_call("toolu_1", "look"), tool_result("toolu_1")]
    assert not has_functions(history)
    assert use_tool_messages([*history, calls("see"), result("see")]) == [
        *history,
        tool_call("call00001", "see"),
        tool_result("call00001"),
    ]


def test_a_mark_for_caching_stands_beside_the_function() -> None:
    mark = {"type": "ephemeral"}
    body = {"functions": [{"name": "look", "cache_control": mark}]}
    use_tools(body)
    assert body["tools"] == [{"type": "function", "function": {"name": "look"}, "cache_control": mark}]


@given(st.lists(st.sampled_from([USER, calls("look"), result("look"), calls("see", content="x"), result("see", None)])))
def test_every_history_becomes_one_of_calls_with_their_results(history: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(history)
    found = use_tool_messages(history)
    assert history == before
    assert not has_functions(found)
    assert use_tool_messages(found) == found
    seen = set()
    for message, following in zip(found, [*found[1:], USER], strict=False):
        SHAPE.validate_python(message)
        if message["role"] == "assistant":
            (call,) = message["tool_calls"]
            assert following["role"] == "tool"
            assert following["tool_call_id"] == call["id"] not in seen
            seen.add(call["id"])
    assert len(seen) == sum(message["role"] == "tool" for message in found)
    # Nothing that was said is lost.
    assert [m["content"] for m in found if m.get("content")] == [m["content"] for m in history if m.get("content")]

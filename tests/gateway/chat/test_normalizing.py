"""Habits that mean the same are the same call, and what contradicts itself is refused with the way out."""

import copy
from typing import Any

import pytest

from gateway.chat.normalizing import normalize
from gateway.chat.parameters import check_parameters
from gateway.errors import ParametersContradict

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
FUNCTION = TOOL["function"]
TEXT_PART = {"type": "text", "text": "hi"}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def body_of(**options: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **options}


def normalized(**options: Any) -> dict[str, Any]:
    body = body_of(**options)
    check_parameters(body)
    before = copy.deepcopy(body)
    canonical = normalize(body)
    assert body == before
    assert normalize(canonical) == canonical
    return canonical


@pytest.mark.parametrize(
    "habit",
    [
        {"n": 1, "stream": False, "logprobs": False, "temperature": None, "stop": None, "tools": []},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "modalities": ["text"]},
        {"response_format": {"type": "text"}, "functions": [], "stream_options": None},
        {"tool_choice": "none", "function_call": "none", "parallel_tool_calls": True, "top_logprobs": 0},
        {"tool_choice": "auto", "function_call": "auto", "stop": []},
        {"messages": [{"role": "user", "content": [TEXT_PART]}]},
    ],
)
def test_what_asks_for_nothing_is_not_there(habit: dict[str, Any]) -> None:
    assert normalized(**habit) == body_of()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"max_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ({"stop": "end"}, {"stop": ["end"]}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [TOOL]}),
        ({"functions": [FUNCTION]}, {"tools": [TOOL], "parallel_tool_calls": False}),
        ({"functions": [FUNCTION], "function_call": "auto"}, {"functions": [FUNCTION]}),
        (
            {"functions": [FUNCTION], "function_call": "none"},
            {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False},
        ),
        (
            {"functions": [FUNCTION], "function_call": {"name": "look"}},
            {
                "tools": [TOOL],
                "tool_choice": {"type": "function", "function": {"name": "look"}},
                "parallel_tool_calls": False,
            },
        ),
        (
            {"messages": [{"role": "developer", "content": [TEXT_PART]}]},
            {"messages": [{"role": "system", "content": "hi"}]},
        ),
    ],
)
def test_two_habits_of_one_call_are_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert normalized(**one) == normalized(**other)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1, "top_p": 1, "seed": 0},
        {"messages": [{"role": "user", "content": [TEXT_PART, IMAGE_PART]}]},
        {"messages": [{"role": "user", "content": [TEXT_PART, TEXT_PART]}]},
        {"messages": [{"role": "user", "content": [{**TEXT_PART, "cache_control": {"type": "ephemeral"}}]}]},
        {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": True},
        {"logprobs": True, "top_logprobs": 0},
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    ],
)
def test_what_means_something_stays(options: dict[str, Any]) -> None:
    assert normalized(**options) == body_of(**options)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, ["max_completion_tokens", "max_tokens"]),
        ({"functions": [FUNCTION], "tools": [TOOL]}, ["functions", "tools"]),
        ({"tool_choice": "required"}, ["tool_choice", "tools"]),
        ({"tool_choice": {"type": "function", "function": {"name": "look"}}}, ["tool_choice", "tools"]),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "see"}}},
            ["tool_choice", "tools"],
        ),
        ({"parallel_tool_calls": False}, ["parallel_tool_calls", "tools"]),
        ({"function_call": {"name": "look"}}, ["function_call", "functions"]),
        ({"functions": [FUNCTION], "function_call": {"name": "see"}}, ["function_call", "functions"]),
        ({"tools": [TOOL], "function_call": {"name": "look"}}, ["function_call", "functions"]),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "function_call": {"name": "look", "arguments": "{}"},
                        "tool_calls": [
                            {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                        ],
                    }
                ]
            },
            ["messages[0].function_call", "messages[0].tool_calls"],
        ),
        ({"functions": [FUNCTION], "parallel_tool_calls": False}, ["parallel_tool_calls", "tools"]),
        ({"top_logprobs": 3}, ["top_logprobs", "logprobs"]),
        ({"logprobs": False, "top_logprobs": 3}, ["top_logprobs", "logprobs"]),
        ({"modalities": ["text", "audio"]}, ["modalities", "audio"]),
        ({"audio": {"voice": "alloy", "format": "wav"}}, ["audio", "modalities"]),
    ],
)
def test_contradictions_are_refused_with_what_to_do(options: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(ParametersContradict) as caught:
        normalized(**options)
    assert caught.value.details == {"parameters": names}
    assert caught.value.param == names[0]
    assert all(f"'{name}'" in caught.value.message for name in names[:1])

"""A client of the time before tools: the stock SDK with `functions=`, whatever the upstream speaks."""

import json
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.contracts.clients import open_client
from tests.contracts.test_anthropic_upstream import COLUMNS
from tests.flows.platform import Caller, Platform
from tests.upstream import Behaviour, ToolCall

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "three plain words"}]
FUNCTIONS: list[Any] = [
    {
        "name": "find_toll",
        "description": "Look a toll up.",
        "parameters": {"type": "object", "properties": {"road": {"type": "string"}}, "required": ["road"]},
    }
]
ASKED = ToolCall(name="find_toll", arguments='{"road":"A1"}', id="toolu_1")
SECOND = ToolCall(name="find_toll", arguments='{"road":"B2"}', id="toolu_2")


@pytest.fixture(params=["openai", "anthropic"])
def caller(platform: Platform, request: pytest.FixtureRequest) -> Caller:
    columns = COLUMNS if request.param == "anthropic" else {}
    return platform.make_caller(model=platform.make_model(upstream=columns))


@pytest.fixture
def client(platform: Platform, caller: Caller) -> Any:
    with open_client(platform, caller) as opened:
        yield opened


def test_a_function_is_called_and_its_result_goes_back(platform: Platform, client: OpenAI, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(text="", tool_calls=(ASKED, SECOND)), target=caller.model)
    first = client.chat.completions.create(
        model=caller.model, messages=MESSAGES, functions=FUNCTIONS, function_call="auto"
    )
    (choice,) = first.choices
    assert choice.finish_reason == "function_call"
    assert choice.message.tool_calls is None
    called = choice.message.function_call
    assert called is not None
    assert (called.name, json.loads(called.arguments)) == ("find_toll", {"road": "A1"})
    # As programs of that time go on: with the message as the SDK has it.
    history: list[Any] = [*MESSAGES, choice.message, {"role": "function", "name": "find_toll", "content": "2 EUR"}]
    second = client.chat.completions.create(model=caller.model, messages=history, functions=FUNCTIONS)
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


def test_a_stream_says_the_function_call_in_pieces(platform: Platform, client: OpenAI, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(text="", tool_calls=(ASKED, SECOND)), target=caller.model)
    name, arguments, reasons = "", "", []
    with client.chat.completions.create(
        model=caller.model, messages=MESSAGES, functions=FUNCTIONS, function_call={"name": "find_toll"}, stream=True
    ) as stream:
        for chunk in stream:
            (choice,) = chunk.choices
            assert choice.delta.tool_calls is None
            if choice.delta.function_call is not None:
                name += choice.delta.function_call.name or ""
                arguments += choice.delta.function_call.arguments or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert (name, json.loads(arguments), reasons) == ("find_toll", {"road": "A1"}, ["function_call"])

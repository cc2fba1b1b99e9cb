"""The stock openai client, and an upstream that speaks Anthropic: the client cannot tell the difference."""

import json
from typing import Any

import openai
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel, TypeAdapter

from tests.contracts.clients import open_client
from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.upstream import Behaviour, ToolCall

COLUMNS = {
    "provider": "anthropic",
    "dialect": "anthropic",
    "authentication": "x-api-key",
    "api_version": "2026-10-21",
    "takes_sampling": False,
    "gives_logprobs": False,
    "takes_several_choices": False,
}
MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "three plain words"},
]
TEXT = "amber birch cedar delta "
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "find_toll",
            "parameters": {"type": "object", "properties": {"road": {"type": "string"}}, "required": ["road"]},
        },
    }
]
CACHED = {
    "input_tokens": 3,
    "cache_read_input_tokens": 1_000,
    "cache_creation_input_tokens": 200,
    "output_tokens": 40,
    "output_tokens_details": {"thinking_tokens": 15},
}


class Toll(BaseModel):
    road: str
    euros: int


@pytest.fixture
def caller(platform: Platform) -> Caller:
    rates = {"cache_read_nanousd": 100_000_000, "cache_write_nanousd": 1_250_000_000}
    model = platform.make_model(upstream=COLUMNS, with_price=False, upstream_model="claude-scripted")
    platform.make_price(model, **rates)
    return platform.make_caller(model=model)


def test_a_completion_comes_back_with_usage_cost_and_ledger_right(
    platform: Platform, client: OpenAI, caller: Caller
) -> None:
    answer = client.chat.completions.create(model=caller.model, messages=MESSAGES, max_tokens=50)
    assert (answer.object, answer.choices[0].message.content) == ("chat.completion", TEXT)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 4)
    (seen,) = platform.requests_for(caller.model)
    assert seen.path.endswith("/v1/messages")
    assert seen.headers["x-api-key"] == "sk-test"
    assert seen.headers["anthropic-version"] == "2026-10-21"
    assert "authorization" not in seen.headers
    assert seen.body == {
        "model": "claude-scripted",
        "max_tokens": 50,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "three plain words"}]}],
    }
    TypeAdapter(MessageCreateParamsNonStreaming).validate_python(seen.body)
    record = platform.settle_one(caller)
    assert (record.input_tokens, record.output_tokens, record.source) == (3, 4, "provider")
    assert record.charged_nanousd == 3 * 1_000 + 4 * 4_000


@pytest.mark.parametrize("stream", [False, True])
def test_cache_reads_cache_writes_and_thinking_are_classes_of_their_own(
    platform: Platform, client: OpenAI, caller: Caller, stream: bool
) -> None:
    platform.upstream.queue(Behaviour(usage=CACHED, reasoning=("Hm.",)), target="claude-scripted")
    long: Any = [{"role": "user", "content": "word " * 3_000}]
    if stream:
        options: Any = {"include_usage": True}
        with client.chat.completions.create(
            model=caller.model, messages=long, stream=True, stream_options=options
        ) as chunks:
            usage = list(chunks)[-1].usage
    else:
        usage = client.chat.completions.create(model=caller.model, messages=long).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (1_203, 1_000)
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (40, 15)
    record = platform.settle_one(caller)
    assert (record.input_tokens, record.cache_read_tokens, record.cache_write_tokens) == (3, 1_000, 200)
    assert (record.output_tokens, record.reasoning_tokens) == (25, 15)
    assert record.charged_nanousd == 3 * 1_000 + 1_000 * 100 + 200 * 1_250 + 40 * 4_000


def test_the_stream_helper_collects_text_thoughts_and_tool_calls(
    platform: Platform, client: OpenAI, caller: Caller
) -> None:
    asked = ToolCall(name="find_toll", arguments='{"road": "A1"}', id="toolu_1")
    platform.upstream.queue(
        Behaviour(text="Let me see.", tool_calls=(asked,), reasoning=("Hm.",)), target="claude-scripted"
    )
    with client.chat.completions.stream(model=caller.model, messages=MESSAGES, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    message = final.choices[0].message
    assert (message.content, final.choices[0].finish_reason) == ("Let me see.", "tool_calls")
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == (
        "toolu_1",
        "find_toll",
        {"road": "A1"},
    )


def test_a_tool_loop_goes_round(platform: Platform, client: OpenAI, caller: Caller) -> None:
    asked = ToolCall(name="find_toll", arguments='{"road": "A1"}', id="toolu_1")
    platform.upstream.queue(Behaviour(tool_calls=(asked,)), target="claude-scripted")
    first = client.chat.completions.create(model=caller.model, messages=MESSAGES, tools=TOOLS, tool_choice="required")
    message: Any = first.choices[0].message
    history = [*MESSAGES, message, {"role": "tool", "tool_call_id": "toolu_1", "content": "2 EUR"}]
    second = client.chat.completions.create(model=caller.model, messages=history, tools=TOOLS)
    assert second.choices[0].message.content == TEXT
    begun, continued = platform.requests_for(caller.model)
    assert begun.body is not None
    assert continued.body is not None
    assert begun.body["tool_choice"] == {"type": "any"}
    assert continued.body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "find_toll", "input": {"road": "A1"}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "2 EUR"}]}
            ],
        },
    ]


def test_a_parsed_answer_is_held_to_its_schema(platform: Platform, client: OpenAI, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(text='{"road": "A1", "euros": 2}'), target="claude-scripted")
    answer = client.chat.completions.parse(model=caller.model, messages=MESSAGES, response_format=Toll)
    assert answer.choices[0].message.parsed == Toll(road="A1", euros=2)
    (seen,) = platform.requests_for(caller.model)
    assert seen.body is not None
    schema = seen.body["output_config"]["format"]["schema"]
    assert (set(schema["properties"]), schema["additionalProperties"]) == ({"road", "euros"}, False)


async def test_the_socket_carries_it_too(platform: Platform, caller: Caller) -> None:
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller)
        *messages, done = await socket.finish()
    texts = [m["data"]["choices"][0]["delta"].get("content") or "" for m in messages if m["type"] == "delta"]
    assert ("".join(texts), done["type"]) == (TEXT, "done")
    assert platform.settle_one(caller).output_tokens == 4


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 0.2}, "temperature"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"seed": 7}, "seed"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_costs_anything(
    platform: Platform, client: OpenAI, caller: Caller, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=caller.model, messages=MESSAGES, **options)
    assert (refused.value.code, refused.value.param) == ("unsupported_by_model", param)
    assert platform.requests_for(caller.model) == []
    assert platform.read_holds(caller) == []


def test_a_call_goes_to_the_deployment_that_can_serve_it(platform: Platform, caller: Caller) -> None:
    platform.add_deployment(caller.model, priority=2)
    with open_client(platform, caller) as client:
        client.chat.completions.create(model=caller.model, messages=MESSAGES, seed=7)
        client.chat.completions.create(model=caller.model, messages=MESSAGES)
    assert [r.path.rpartition("/v1")[2] for r in platform.requests_for(caller.model)] == [
        "/chat/completions",
        "/messages",
    ]

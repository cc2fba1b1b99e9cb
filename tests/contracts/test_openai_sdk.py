"""The stock openai SDK works with nothing changed but `base_url` and `api_key`."""

import base64
import json
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from billing.models import UsageRecord
from gateway.chat.parameters import OWN_PARAMETERS, known_parameters
from tests.contracts.clients import open_client
from tests.flows.platform import Caller, Platform, in_thread
from tests.flows.wire import ask
from tests.upstream import Behaviour, Inject, ToolCall

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "three plain words"}]
TEXT = "amber birch cedar delta "
# A transparent pixel.
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "find_toll",
            "description": "Look a toll up.",
            "parameters": {"type": "object", "properties": {"road": {"type": "string"}}, "required": ["road"]},
        },
    }
]


# ---- answers


def test_create_returns_the_completion_with_usage_and_what_it_cost(client: OpenAI, caller: Caller) -> None:
    completion = client.chat.completions.create(model=caller.model, messages=MESSAGES)
    assert completion.choices[0].message.content == TEXT
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (3, 4)
    extra = completion.model_extra
    assert extra is not None
    told = extra["tollkeeper"]
    assert told["model"] == caller.model
    assert (told["cost_usd"], told["balance_usd"]) == ("0.000019", "9.999981")
    assert told["usage"] == {"input_tokens": 3, "output_tokens": 4, "source": "provider"}
    assert set(told["timing_ms"]) == {"upstream", "first_token", "total", "overhead"}


async def test_the_async_client_gets_the_same(async_client: AsyncOpenAI, caller: Caller) -> None:
    completion = await async_client.chat.completions.create(model=caller.model, messages=MESSAGES)
    assert completion.choices[0].message.content == TEXT


def test_the_upstream_gets_its_own_model_name_secret_and_limit(
    platform: Platform, client: OpenAI, caller: Caller
) -> None:
    client.chat.completions.create(model=caller.model, messages=MESSAGES)
    (seen,) = platform.requests_for(caller.model)
    assert seen.headers["authorization"] == "Bearer sk-test"
    assert caller.token not in seen.raw_body.decode() + str(seen.headers)
    assert seen.body == {"model": caller.model, "messages": MESSAGES, "max_tokens": 256}


def test_a_stream_yields_every_chunk_and_none_without_choices(client: OpenAI, caller: Caller) -> None:
    with client.chat.completions.create(model=caller.model, messages=MESSAGES, stream=True) as stream:
        chunks = list(stream)
    # Clients read choices[0] of every chunk unless they asked for the usage chunk.
    assert [len(chunk.choices) for chunk in chunks] == [1] * 5
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_with_include_usage_ends_with_usage_and_cost(client: OpenAI, caller: Caller) -> None:
    with client.chat.completions.create(
        model=caller.model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *others, last = list(stream)
    assert all(chunk.usage is None for chunk in others)
    assert (last.choices, last.usage is not None and last.usage.total_tokens) == ([], 7)
    assert last.model_extra is not None
    assert last.model_extra["tollkeeper"]["cost_usd"] == "0.000019"


async def test_the_async_client_streams(async_client: AsyncOpenAI, caller: Caller) -> None:
    stream = await async_client.chat.completions.create(model=caller.model, messages=MESSAGES, stream=True)
    async with stream:
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == TEXT


def test_the_stream_helper_collects_the_completion(client: OpenAI, caller: Caller) -> None:
    with client.chat.completions.stream(
        model=caller.model, messages=MESSAGES, stream_options={"include_usage": True}
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == TEXT
    assert final.usage is not None


async def test_the_async_stream_helper_collects_the_completion(async_client: AsyncOpenAI, caller: Caller) -> None:
    async with async_client.chat.completions.stream(model=caller.model, messages=MESSAGES) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == TEXT


async def test_ids_of_a_stream_increase_by_one_from_zero(platform: Platform, caller: Caller) -> None:
    answer = await ask(platform.server, caller, stream=True, stream_options={"include_usage": True})
    # Four words, the finish and the usage.
    assert answer.ids == list(range(6))
    assert answer.is_whole


# ---- tools, formats, choices, log probabilities, images


def test_tool_calls_come_back_and_tool_messages_go_in(platform: Platform, client: OpenAI, caller: Caller) -> None:
    asked = ToolCall(name="find_toll", arguments='{"road": "A1"}', id="call_1")
    platform.upstream.queue(Behaviour(tool_calls=(asked,)), target=caller.model)
    first = client.chat.completions.create(model=caller.model, messages=MESSAGES, tools=TOOLS, tool_choice="auto")
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("call_1", "find_toll", {"road": "A1"})
    history: list[Any] = [*MESSAGES, message, {"role": "tool", "tool_call_id": "call_1", "content": "2 EUR"}]
    second = client.chat.completions.create(model=caller.model, messages=history, tools=TOOLS)
    assert second.choices[0].message.content == TEXT
    _, seen = platform.requests_for(caller.model)
    assert seen.body is not None
    assert seen.body["messages"][1]["tool_calls"][0]["id"] == "call_1"
    assert seen.body["messages"][2] == history[2]
    assert seen.body["tools"] == TOOLS


def test_tool_calls_stream(platform: Platform, client: OpenAI, caller: Caller) -> None:
    asked = ToolCall(name="find_toll", arguments='{"road": "A1"}')
    platform.upstream.queue(Behaviour(tool_calls=(asked,)), target=caller.model)
    with client.chat.completions.stream(model=caller.model, messages=MESSAGES, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"road": "A1"}'


class Toll(BaseModel):
    road: str
    cents: int


def test_a_json_schema_is_passed_through_and_parsed(platform: Platform, client: OpenAI, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(text='{"road": "A1", "cents": 200}'), target=caller.model)
    completion = client.chat.completions.parse(model=caller.model, messages=MESSAGES, response_format=Toll)
    assert completion.choices[0].message.parsed == Toll(road="A1", cents=200)
    (seen,) = platform.requests_for(caller.model)
    assert seen.body is not None
    sent = seen.body["response_format"]
    assert (sent["type"], sent["json_schema"]["name"], sent["json_schema"]["strict"]) == ("json_schema", "Toll", True)
    assert set(sent["json_schema"]["schema"]["properties"]) == {"road", "cents"}


def test_two_choices_are_held_and_billed_as_two(platform: Platform, client: OpenAI, caller: Caller) -> None:
    raw = client.chat.completions.with_raw_response.create(model=caller.model, messages=MESSAGES, n=2)
    completion = raw.parse()
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 8
    assert raw.headers["x-cost-usd"] == "0.000035"
    record = platform.settle_one(caller)
    assert record.output_tokens == 8


def test_two_choices_stream(client: OpenAI, caller: Caller) -> None:
    with client.chat.completions.stream(model=caller.model, messages=MESSAGES, n=2) as stream:
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == [TEXT, TEXT]


LOGPROBS = {"content": [{"token": "yes", "logprob": -0.25, "bytes": [121], "top_logprobs": []}], "refusal": None}


def test_logprobs_pass_through(platform: Platform, client: OpenAI, caller: Caller) -> None:
    message = {"role": "assistant", "content": "yes", "refusal": None}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": LOGPROBS, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
    platform.upstream.queue(Behaviour(body=json.dumps(answer)), target=caller.model)
    completion = client.chat.completions.create(model=caller.model, messages=MESSAGES, logprobs=True, top_logprobs=3)
    assert completion.choices[0].logprobs is not None
    assert completion.choices[0].logprobs.model_dump() == LOGPROBS
    (seen,) = platform.requests_for(caller.model)
    assert seen.body is not None
    assert (seen.body["logprobs"], seen.body["top_logprobs"]) == (True, 3)


def test_logprobs_stream_through(platform: Platform, client: OpenAI, caller: Caller) -> None:
    choice = {"index": 0, "delta": {"content": "yes"}, "logprobs": LOGPROBS, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    platform.upstream.queue(Behaviour(inject=(Inject(at=0, data=json.dumps(chunk)),)), target=caller.model)
    with client.chat.completions.create(model=caller.model, messages=MESSAGES, stream=True, logprobs=True) as stream:
        first = next(iter(stream))
    assert first.choices[0].logprobs is not None
    assert first.choices[0].logprobs.model_dump() == LOGPROBS


def test_images_pass_and_are_held_at_the_models_bound(platform: Platform, client: OpenAI, caller: Caller) -> None:
    content: list[Any] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
    ]
    messages: list[Any] = [{"role": "user", "content": content}]
    platform.upstream.queue(Behaviour(hold_at="head"), target=caller.model)
    with in_thread(client.chat.completions.create, model=caller.model, messages=messages) as join:
        (seen,) = platform.upstream.wait_until_held()
        (hold,) = platform.read_holds(caller)
        platform.upstream.release()
        assert join().choices[0].message.content == TEXT
    # 1,600 for the image, by the model's own bound; the base64 is not counted as text.
    assert 1_600 < hold.input_tokens < 1_620
    assert seen.body is not None
    assert seen.body["messages"] == messages


# ---- parameters


# One valid value each; what the platform replaces is checked apart.
PARAMETERS: dict[str, Any] = {
    "audio": {"format": "mp3", "voice": "alloy"},
    "frequency_penalty": 0.5,
    "function_call": {"name": "find_toll"},
    "functions": [{"name": "find_toll", "description": "", "parameters": {"type": "object", "properties": {}}}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 50,
    "max_tokens": 50,
    "metadata": {"project": "tolls", "team": "roads"},
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "amber"},
    "presence_penalty": -0.5,
    "prompt_cache_key": "tolls",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "safety_identifier": "user-7",
    "seed": 7,
    "service_tier": "auto",
    "stop": ["STOP", "END"],
    "store": False,
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 0.2,
    "tool_choice": {"type": "function", "function": {"name": "find_toll"}},
    "tools": TOOLS,
    "top_logprobs": 5,
    "top_p": 0.9,
    "user": "user-7",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
}
REPLACED = {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens"}


# Of these a call has one or the other; the old form goes out as the new one.
OLD_FORM = {"functions", "function_call"}
NEW_FORM = {"tools": [{"type": "function", "function": PARAMETERS["functions"][0]}]} | {
    name: PARAMETERS[name] for name in ("tool_choice", "parallel_tool_calls")
}
# What each may not go without.
NEEDED = {
    "audio": ("modalities",),
    "function_call": ("functions",),
    "modalities": ("audio",),
    "parallel_tool_calls": ("tools",),
    "stream_options": ("stream",),
    "tool_choice": ("tools",),
    "top_logprobs": ("logprobs",),
}


@pytest.mark.parametrize("left_out", [OLD_FORM, set(NEW_FORM)])
def test_every_parameter_of_the_openai_types_is_accepted_and_passed_on(
    platform: Platform, client: OpenAI, caller: Caller, left_out: set[str]
) -> None:
    # A new openai package with a new parameter fails here until there is a value for it.
    assert set(PARAMETERS) | {"model", "messages"} == known_parameters() - OWN_PARAMETERS
    parameters = {name: value for name, value in PARAMETERS.items() if name not in left_out}
    with client.chat.completions.create(model=caller.model, messages=MESSAGES, **parameters) as stream:
        *_, last = stream
    assert last.usage is not None
    (seen,) = platform.requests_for(caller.model)
    assert seen.body is not None
    passed = {name: value for name, value in parameters.items() if name not in REPLACED | OLD_FORM}
    if "functions" in parameters:
        passed |= NEW_FORM
    assert {name: value for name, value in seen.body.items() if name not in REPLACED} == {
        **passed,
        "messages": MESSAGES,
    }
    # Under the one name that this upstream takes.
    assert (seen.body.get("max_tokens"), seen.body.get("max_completion_tokens")) == (50, None)
    assert seen.body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    (record,) = platform.wait_for_usage(caller)
    assert (record.end_user, record.tags) == ("user-7", {"project": "tolls", "team": "roads"})


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - {"stream_options"}))
def test_each_parameter_may_stand_alone_with_what_it_needs(platform: Platform, caller: Caller, name: str) -> None:
    options = {one: PARAMETERS[one] for one in (name, *NEEDED.get(name, ()))}
    with open_client(platform, caller) as client:
        raw = client.chat.completions.with_raw_response.create(model=caller.model, messages=MESSAGES, **options)
        assert raw.status_code == 200
        raw.http_response.read()


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_without_what_it_needs_a_parameter_is_refused_with_the_way_out(
    client: OpenAI, caller: Caller, name: str
) -> None:
    options: Any = {name: PARAMETERS[name]}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=caller.model, messages=MESSAGES, **options)
    assert caught.value.code == ("invalid_body" if name == "stream_options" else "contradictory_parameters")
    assert caught.value.param == name
    assert f"'{NEEDED[name][0]}'" in caught.value.message


@pytest.mark.parametrize("unknown", [["temprature"], ["zeta", "max_output", "alpha"]])
def test_unknown_parameters_are_refused_with_their_names(client: OpenAI, caller: Caller, unknown: list[str]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=caller.model, messages=MESSAGES, extra_body=dict.fromkeys(unknown, 1))
    body = caught.value.body
    assert isinstance(body, dict)
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", min(unknown))
    assert body["details"] == {"unknown_parameters": sorted(unknown)}
    assert all(f"'{name}'" in caught.value.message for name in unknown)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": "warm"}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "pilot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"n": 0}, "n"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(
    platform: Platform, client: OpenAI, caller: Caller, options: dict[str, Any], param: str
) -> None:
    call: dict[str, Any] = {"model": caller.model, "messages": MESSAGES, **options}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**call)
    assert (caught.value.code, caught.value.param) == ("invalid_body", param)
    assert platform.requests_for(caller.model) == []


# ---- headers


RECEIPT_HEADERS = {"x-cost-usd", "x-balance-usd", "x-overhead-ms", "x-upstream-ms"}


def test_an_answer_says_who_answered_what_it_cost_and_what_is_left(platform: Platform) -> None:
    limits: dict[str, int | None] = {
        "requests_per_minute": 60,
        "input_tokens_per_minute": 6_000,
        "output_tokens_per_minute": 60_000,
    }
    caller = platform.make_caller(plan_limits=limits)
    with open_client(platform, caller) as client:
        raw = client.chat.completions.with_raw_response.create(model=caller.model, messages=MESSAGES)
    headers = raw.headers
    record: UsageRecord = platform.settle_one(caller)
    assert raw.request_id == headers["x-request-id"] == record.request_id
    assert (headers["x-model"], headers["x-upstream"]) == (caller.model, record.upstream)
    assert (headers["x-cost-usd"], headers["x-balance-usd"]) == ("0.000019", "9.999981")
    assert float(headers["x-overhead-ms"]) >= 0
    assert float(headers["x-upstream-ms"]) >= 0
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert int(headers["x-ratelimit-reset-requests"]) == 1
    # 10 tokens of input were counted, 256 of output reserved.
    assert headers["x-ratelimit-remaining-input-tokens"] == "5990"
    assert headers["x-ratelimit-remaining-output-tokens"] == "59744"


def test_a_stream_says_in_its_head_what_is_known_then(platform: Platform, caller: Caller) -> None:
    with (
        open_client(platform, caller) as client,
        client.chat.completions.with_streaming_response.create(
            model=caller.model, messages=MESSAGES, stream=True
        ) as raw,
    ):
        assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (raw.headers["cache-control"], raw.headers["x-model"]) == ("no-cache", caller.model)
        assert not RECEIPT_HEADERS & set(raw.headers)
        lines = list(raw.iter_lines())
    # The receipt comes as a comment, which no client takes for a chunk.
    (comment,) = [line for line in lines if line.startswith(":")]
    told = json.loads(comment.removeprefix(": tollkeeper "))
    assert (told["request_id"], told["cost_usd"]) == (raw.headers["x-request-id"], "0.000019")


def test_every_request_has_an_id_of_its_own(platform: Platform, caller: Caller) -> None:
    with open_client(platform, caller) as client:
        ids = {
            client.chat.completions.with_raw_response.create(model=caller.model, messages=MESSAGES).request_id
            for _ in range(3)
        }
    assert len(ids) == 3


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_refused_by_name(platform: Platform, caller: Caller, method: str) -> None:
    answer = httpx2.request(method, f"{platform.server.base_url}/chat/completions", headers=caller.headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_a_request_without_a_key_is_told_where_to_put_it(platform: Platform) -> None:
    answer = httpx2.post(f"{platform.server.base_url}/chat/completions", json={})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer" in answer.json()["error"]["message"]

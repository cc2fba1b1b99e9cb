"""Who speaks of functions, the form before tools, is answered in it, however the answer gets there.

Upstreams, caches and repeats know one form: callers of both forms share answers, and each gets its own.
"""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from tests.flows.platform import Caller, Platform, wait_for
from tests.flows.resuming import ask_stream
from tests.flows.sockets import open_socket
from tests.flows.wire import JsonObject, ask, ask_many
from tests.upstream import Behaviour, ToolCall

FUNCTION = {"name": "find_toll", "parameters": {"type": "object", "properties": {"road": {"type": "string"}}}}
ARGUMENTS = '{"road": "A1"}'
ASKED = ToolCall(name="find_toll", arguments=ARGUMENTS, id="call_1")
TOO_MANY = (ASKED, ToolCall(name="find_toll", arguments='{"road": "B2"}', id="call_2"))
OLD: JsonObject = {"functions": [FUNCTION]}
# The same call with tools: the old form has room for one call an answer.
NEW: JsonObject = {"tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": False}
CALL = {"name": "find_toll", "arguments": ARGUMENTS}
HOUR = {"cache-control": "max-age=3600"}
USAGE = {"include_usage": True}


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


def script(platform: Platform, caller: Caller, *calls: ToolCall, **behaviour: Any) -> None:
    platform.upstream.queue(Behaviour(text="", tool_calls=calls or (ASKED,), **behaviour), target=caller.model)


def joined(chunks: Iterable[JsonObject]) -> tuple[JsonObject, list[str]]:
    """Return what the chunks of a stream say of function calls, put together, and the finish reasons."""
    said: JsonObject = {}
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    assert not any("tool_calls" in choice["delta"] for choice in choices)
    for choice in choices:
        for name, value in (choice["delta"].get("function_call") or {}).items():
            said[name] = said.get(name, "") + value
    return said, [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


@pytest.mark.parametrize("calls", [(ASKED,), TOO_MANY])
async def test_a_whole_answer_calls_one_function(
    platform: Platform, caller: Caller, calls: tuple[ToolCall, ...]
) -> None:
    script(platform, caller, *calls)
    answer = await ask(platform.server, caller, **OLD)
    (choice,) = answer.body["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == CALL
    assert "tool_calls" not in choice["message"]
    assert answer.body["tollkeeper"]["quality"]["finish_reasons"] == ["function_call"]
    (seen,) = platform.requests_for(caller.model)
    assert seen.body is not None
    assert {name: seen.body.get(name) for name in ("tools", "parallel_tool_calls", "functions")} == {
        **NEW,
        "functions": None,
    }
    # What was produced is paid, also what nobody is told of.
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.finish_reason, record.output_tokens) == ("tool_calls", answer.body["usage"]["completion_tokens"])


@pytest.mark.parametrize("calls", [(ASKED,), TOO_MANY])
async def test_a_stream_calls_one_function(platform: Platform, caller: Caller, calls: tuple[ToolCall, ...]) -> None:
    script(platform, caller, *calls)
    answer = await ask(platform.server, caller, stream=True, stream_options=USAGE, **OLD)
    assert answer.is_whole
    assert joined(answer.events) == (CALL, ["function_call"])
    assert answer.ids == list(range(len(answer.events)))
    assert answer.events[-1]["tollkeeper"]["quality"]["finish_reasons"] == ["function_call"]


async def test_a_socket_calls_one_function(platform: Platform, caller: Caller) -> None:
    script(platform, caller, *TOO_MANY)
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller, **OLD)
        *messages, done = await socket.finish()
    deltas = [message["data"] for message in messages if message["type"] == "delta"]
    assert joined(deltas) == (CALL, ["function_call"])
    assert done["tollkeeper"]["quality"]["finish_reasons"] == ["function_call"]


async def test_an_answer_of_text_passes_as_it_came(platform: Platform, caller: Caller) -> None:
    old = await ask(platform.server, caller, stream=True, **OLD)
    new = await ask(platform.server, caller, stream=True, **NEW)
    assert [event["choices"] for event in old.events] == [event["choices"] for event in new.events]
    assert old.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_is_answered_in_the_form_that_it_asks_in(
    platform: Platform, caller: Caller, stream: bool
) -> None:
    script(platform, caller)
    key = {"idempotency-key": "one"}
    first = await ask(platform.server, caller, headers=key, stream=stream, **OLD)
    again = await ask(platform.server, caller, headers=key, stream=stream, **OLD)
    other = await ask(platform.server, caller, headers=key, stream=stream, **NEW)
    assert [answer.headers.get("idempotency-replayed") for answer in (first, again, other)] == [None, "true", "true"]
    if stream:
        assert again.events == first.events
        assert joined(first.events) == (CALL, ["function_call"])
        assert other.events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    else:
        assert again.body["choices"] == first.body["choices"]
        assert first.body["choices"][0]["message"]["function_call"] == CALL
        (call,) = other.body["choices"][0]["message"]["tool_calls"]
        assert call["function"] == CALL
    assert len(platform.requests_for(caller.model)) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("first", "second"), [(OLD, NEW), (NEW, OLD)])
async def test_callers_of_both_forms_share_a_cached_answer(
    platform: Platform, caller: Caller, first: JsonObject, second: JsonObject, stream: bool
) -> None:
    script(platform, caller)
    answers = {
        "functions" in form: await ask(platform.server, caller, headers=HOUR, stream=stream, **form)
        for form in (first, second)
    }
    assert sorted(answer.headers["x-cache"] for answer in answers.values()) == ["hit", "miss"]
    old, new = answers[True], answers[False]
    if stream:
        assert joined(old.events) == (CALL, ["function_call"])
        assert new.events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    else:
        assert old.body["choices"][0]["message"]["function_call"] == CALL
        assert new.body["choices"][0]["message"]["tool_calls"][0]["id"] == "call_1"
    assert len(platform.requests_for(caller.model)) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_callers_of_both_forms_share_a_call_that_runs(platform: Platform, stream: bool) -> None:
    caller = platform.make_caller(model=platform.make_model(cache_seconds=60))
    script(platform, caller, hold_at="head")
    asking = [asyncio.create_task(ask_many(platform.server, caller, n=2, stream=stream, **form)) for form in (OLD, NEW)]
    await asyncio.to_thread(wait_for, lambda: len(platform.read_holds(caller)) == 4, what="four calls in flight")
    await asyncio.to_thread(platform.release)
    old, new = [await answers for answers in asking]
    assert len(platform.requests_for(caller.model)) == 1
    for answer in old:
        if stream:
            assert joined(answer.events) == (CALL, ["function_call"])
        else:
            assert answer.body["choices"][0]["message"]["function_call"] == CALL
    for answer in new:
        assert "function_call" not in answer.raw.decode()
    await asyncio.to_thread(platform.wait_for_usage, caller, 4)
    platform.assert_settled(caller)


async def test_a_stream_that_is_kept_is_kept_in_its_callers_form(platform: Platform, caller: Caller) -> None:
    script(platform, caller, *TOO_MANY)
    whole = await ask(platform.server, caller, stream=True, headers={"x-resumable": "true"}, **OLD)
    assert joined(whole.events) == (CALL, ["function_call"])
    rest = await ask_stream(platform.server, caller, whole.headers["x-stream-id"], after=0)
    assert rest.events == whole.events[1:]
    assert rest.is_whole


async def test_history_in_the_old_form_goes_out_with_tools(platform: Platform, caller: Caller) -> None:
    question = {"role": "user", "content": "What does it cost?"}
    history = [
        question,
        {"role": "assistant", "content": None, "function_call": CALL},
        {"role": "function", "name": "find_toll", "content": "2 EUR"},
    ]
    answer = await ask(platform.server, caller, messages=history, **OLD)
    assert answer.status == 200
    (seen,) = platform.requests_for(caller.model)
    assert seen.body is not None
    assert seen.body["messages"] == [
        question,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call00001", "type": "function", "function": CALL}],
        },
        {"role": "tool", "tool_call_id": "call00001", "content": "2 EUR"},
    ]


async def test_what_is_held_covers_the_history_as_it_is_sent(platform: Platform, caller: Caller) -> None:
    """Arguments of earlier calls are input like any other."""
    long = json.dumps({"road": "A1 " * 500})
    history = [
        {"role": "assistant", "content": None, "function_call": {"name": "find_toll", "arguments": long}},
        {"role": "function", "name": "find_toll", "content": "2 EUR"},
    ]
    platform.upstream.queue(Behaviour(hold_at="head"), target=caller.model)
    asking = asyncio.create_task(ask(platform.server, caller, messages=history, **OLD))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
    (hold,) = await asyncio.to_thread(platform.read_holds, caller)
    platform.upstream.release()
    assert (await asking).status == 200
    assert hold.input_tokens > 1_000


@pytest.mark.parametrize("samples", [True, False])
async def test_models_that_choose_their_own_sampling_are_not_told_to_call_one(
    platform: Platform, samples: bool
) -> None:
    """OpenAI's reasoning models of 2025 refuse the parameter; a caller's own goes out as ever."""
    caller = platform.make_caller(model=platform.make_model(upstream={"takes_sampling": samples}))
    await ask(platform.server, caller, **OLD)
    await ask(platform.server, caller, **NEW)
    old, new = [request.body or {} for request in platform.requests_for(caller.model)]
    assert ("parallel_tool_calls" in old, "parallel_tool_calls" in new) == (samples, True)

"""Signs of quality are the same on every way to call, and absent where nobody gave them."""

import json
from typing import Any

import pytest

from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.flows.test_prompt_runs import CITY, GOOD, WRONG, make, read_events, run
from tests.flows.wire import ask
from tests.upstream import Behaviour

WAYS = ("json", "sse", "websocket", "run", "run stream")
CITED = {"type": "url_citation", "url_citation": {"url": "https://example.com/bern", "title": "Bern", "start_index": 0}}
ODD: list[Any] = [{"type": "file_citation"}, {"url_citation": {"url": 7}}, "text"]
LOGPROBS = [-0.5, -0.25, -1.5]


def entry(logprob: object) -> dict[str, object]:
    return {"token": "x", "logprob": logprob, "bytes": None, "top_logprobs": []}


def telling(*, is_stream: bool) -> Behaviour:
    """Return an answer of two choices that says all it can of itself."""
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    head = {"id": "c", "created": 1, "model": "m"}
    first = {"content": "Bern", "annotations": [CITED, CITED, *ODD]}
    logprobs = {"content": [entry(value) for value in LOGPROBS], "refusal": None}
    if not is_stream:
        choices = [
            {"index": 0, "message": {"role": "assistant", **first}, "logprobs": logprobs, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": "B"}, "logprobs": {}, "finish_reason": "length"},
        ]
        body = {**head, "object": "chat.completion", "choices": choices, "usage": usage}
        return Behaviour(body=json.dumps(body))
    deltas: list[Any] = [
        {"index": 0, "delta": first, "logprobs": {"content": [entry(LOGPROBS[0]), entry("odd")]}},
        {"index": 1, "delta": {"content": "B"}, "logprobs": None, "finish_reason": "length"},
        {"index": 0, "delta": {}, "logprobs": {"content": [entry(v) for v in LOGPROBS[1:]]}, "finish_reason": "stop"},
    ]
    chunks = [{**head, "object": "chat.completion.chunk", "choices": [delta]} for delta in deltas]
    chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return Behaviour(body=f"{text}data: [DONE]\n\n", content_type="text/event-stream")


async def read_quality(platform: Platform, caller: Caller, way: str, **options: Any) -> object:
    if way == "websocket":
        async with open_socket(platform.server, caller) as socket:
            await socket.call(caller, **options)
            return (await socket.finish())[-1]["tollkeeper"]["quality"]
    if way in {"run", "run stream"}:
        answer = await run(platform, caller, make(platform, caller), stream=way == "run stream")
        return (read_events(answer)[-1][1] if answer.is_stream else answer.body)["quality"]
    if way == "sse":
        answer = await ask(platform.server, caller, stream=True, stream_options={"include_usage": True}, **options)
        return answer.events[-1]["tollkeeper"]["quality"]
    return (await ask(platform.server, caller, **options)).body["tollkeeper"]["quality"]


@pytest.mark.parametrize("way", WAYS)
async def test_what_an_answer_says_of_itself_is_summed_up(platform: Platform, way: str) -> None:
    caller = platform.make_caller()
    behaviour = telling(is_stream=way in {"sse", "websocket", "run stream"})
    platform.upstream.queue(behaviour, target=caller.model)
    assert await read_quality(platform, caller, way, n=2, logprobs=True) == {
        "finish_reasons": ["stop", "length"],
        "truncated": True,
        "mean_logprob": -0.75,
        "logprob_tokens": 3,
        "sources": [{"url": "https://example.com/bern", "title": "Bern"}],
    }
    platform.settle_one(caller)


@pytest.mark.parametrize("way", WAYS)
async def test_what_it_does_not_say_is_absent(platform: Platform, way: str) -> None:
    caller = platform.make_caller()
    assert await read_quality(platform, caller, way) == {"finish_reasons": ["stop"], "truncated": False}


@pytest.mark.parametrize(("texts", "reasks"), [([GOOD], 0), ([WRONG, GOOD], 1)])
async def test_asking_again_is_counted(platform: Platform, texts: list[str], reasks: int) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(*[Behaviour(text=text) for text in texts], target=caller.model)
    answer = await run(platform, caller, make(platform, caller, output_schema=CITY))
    assert answer.body["quality"] == {"finish_reasons": ["stop"], "truncated": False, "schema_reasks": reasks}


async def test_a_repeat_says_the_same(platform: Platform) -> None:
    caller, key = platform.make_caller(), {"idempotency-key": "order-4711"}
    platform.upstream.queue(telling(is_stream=False), target=caller.model)
    first, second = [
        (await ask(platform.server, caller, n=2, logprobs=True, headers=key)).body["tollkeeper"] for _ in range(2)
    ]
    assert second["quality"] == first["quality"]

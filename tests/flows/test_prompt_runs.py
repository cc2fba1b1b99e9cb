"""Prompts as endpoints: the same run over HTTP, event stream and WebSocket, and as part of a chat completion."""

import io
import json
from typing import Any

import pytest

from billing.models import UsageStatus
from prompts.authoring import deprecate_version
from prompts.json_values import JsonObject
from prompts.models import Prompt, PromptVersion
from tests import prompting
from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.flows.wire import Answer, ask, open_client
from tests.upstream import Behaviour, error

CITY: JsonObject = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
GOOD = '{"city": "Bern", "people": 134000}'
WRONG = '{"city": "Bern", "people": "many"}'
TEXT = "amber birch cedar delta "
_JSON = {"content-type": "application/json"}
_names = iter(f"flow-prompt-{number}" for number in range(1_000))


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


def make(platform: Platform, caller: Caller, **content: Any) -> str:
    """Release a prompt that calls the caller's model; return its name."""
    name = next(_names)
    wanted = prompting.text_content(**{"system": "You know cities.", "model": caller.model, **content})
    platform.run(prompting.make_released, name, wanted)
    return name


def publish(platform: Platform, name: str, caller: Caller, text: str) -> PromptVersion:
    """Publish another version of a prompt, and release it nowhere."""
    content = prompting.text_content(text, system="You know cities.", model=caller.model)
    return platform.run(lambda: prompting.publish(Prompt.objects.get(name=name), content))


async def run(
    platform: Platform, caller: Caller, name: str, *, headers: dict[str, str] | None = None, **body: Any
) -> Answer:
    url = f"{platform.server.base_url}/prompts/{name}/runs"
    # A file: the client warns of large bodies.
    data = io.BytesIO(json.dumps({"inputs": {"name": "Ada"}, **body}).encode())
    async with (
        open_client() as client,
        client.post(url, data=data, headers=caller.headers | _JSON | (headers or {})) as response,
    ):
        return Answer(status=response.status, headers=response.headers, raw=await response.read())


def read_events(answer: Answer) -> list[tuple[str, Any]]:
    """Return the names and data of a stream's events."""
    found = []
    for block in answer.raw.decode().strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], json.loads(fields["data"])))
    return found


# ---- one run


async def test_a_run_answers_with_text_version_usage_and_cost(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    answer = await run(platform, caller, name, tags={"team": "maps"})
    assert answer.status == 200
    record = platform.settle_one(caller)
    body = answer.body
    assert body.keys() == {
        "id", "output", "finish_reason", "prompt", "model", "usage", "cost_usd", "balance_usd", "timing_ms", "attempts",
        "quality",
    }  # fmt: skip
    assert (body["id"], body["output"], body["model"]) == (record.request_id, TEXT, caller.model)
    assert body["prompt"] == {"name": name, "version": "1.0.0", "label": "production"}
    assert body["usage"] == {
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "source": "provider",
    }
    assert body["cost_usd"] == answer.headers["x-cost-usd"]
    assert [attempt["outcome"] for attempt in body["attempts"]] == ["valid"]
    assert answer.headers["x-prompt"] == f"{name}@1.0.0"
    assert (record.operation, record.prompt, record.prompt_version) == ("prompts.runs", name, "1.0.0")
    assert record.tags == {"team": "maps"}
    (sent,) = platform.requests_for(caller.model)
    assert sent.body is not None
    assert sent.body["messages"] == [
        {"role": "system", "content": "You know cities."},
        {"role": "user", "content": "Say hello to Ada."},
    ]


async def test_a_run_with_a_schema_answers_with_the_object_and_asks_again(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller, output_schema=CITY)
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(text=GOOD), target=caller.model)
    answer = await run(platform, caller, name)
    assert (answer.status, answer.body["output"]) == (200, {"city": "Bern", "people": 134000})
    assert [attempt["outcome"] for attempt in answer.body["attempts"]] == ["invalid", "valid"]
    record = platform.settle_one(caller)
    assert answer.body["usage"]["output_tokens"] == record.output_tokens == 8
    sent = platform.requests_for(caller.model)[0].body
    assert sent is not None
    assert sent["response_format"]["json_schema"]["strict"] is True
    platform.reconcile()


async def test_a_run_streams_its_text_as_events(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    answer = await run(platform, caller, name, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    (first, start), *deltas, (last, done) = read_events(answer)
    assert (first, last) == ("start", "done")
    assert start["prompt"]["version"] == "1.0.0"
    assert {kind for kind, _ in deltas} == {"delta"}
    assert "".join(data["text"] for _, data in deltas) == TEXT == done["output"]
    assert answer.ids == list(range(len(deltas) + 2))
    assert (start["id"], done["id"]) == (answer.headers["x-request-id"],) * 2
    assert platform.settle_one(caller).status == UsageStatus.COMPLETED


async def test_a_run_streams_its_object_as_it_grows(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller, output_schema=CITY)
    # Longer than what is gathered into one piece, wherever the pieces are cut.
    city = "Bern on the river Aare"
    text = GOOD.replace("Bern", city)
    platform.upstream.queue(Behaviour(text=text, events=len(text)), target=caller.model)
    _, *partials, (last, done) = read_events(await run(platform, caller, name, stream=True))
    assert {kind for kind, _ in partials} == {"partial"}
    assert any(0 < len(data["value"].get("city", "")) < len(city) for _, data in partials)
    assert (last, done["output"]) == ("done", {"city": city, "people": 134000})


async def test_a_streamed_run_that_never_fits_ends_in_an_error_event(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller, output_schema=CITY)
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(text=WRONG), target=caller.model)
    answer = await run(platform, caller, name, stream=True)
    last, data = read_events(answer)[-1]
    assert (last, data["error"]["code"]) == ("error", "output_invalid")
    assert len(data["tollkeeper"]["attempts"]) == 2
    assert platform.settle_one(caller).status == UsageStatus.INTERRUPTED


async def test_a_run_over_the_socket_is_the_same_run(platform: Platform, caller: Caller) -> None:
    name, typed = make(platform, caller), make(platform, caller, output_schema=CITY)
    platform.upstream.queue(Behaviour(), Behaviour(text=GOOD, events=20), target=caller.model)
    async with open_socket(platform.server, caller) as socket:
        await socket.send({"type": "run", "id": "a", "prompt": name, "body": {"inputs": {"name": "Ada"}}})
        start, *deltas, done = await socket.finish()
        await socket.send({"type": "run", "id": "b", "prompt": typed, "body": {"inputs": {"name": "Ada"}}})
        _, *partials, typed_done = await socket.finish()
    assert start["prompt"] == {"name": name, "version": "1.0.0", "label": "production"}
    assert "".join(delta["text"] for delta in deltas) == done["run"]["output"] == TEXT
    assert {message["type"] for message in partials} == {"partial"}
    assert typed_done["run"]["output"] == {"city": "Bern", "people": 134000}
    assert [record.prompt for record in platform.wait_for_usage(caller, 2)] == [name, typed]


async def test_a_key_that_may_only_run_prompts_may_open_a_socket(platform: Platform, caller: Caller) -> None:
    narrow = platform.make_caller(model=caller.model, scopes=("prompts:run",))
    name = make(platform, narrow)
    async with open_socket(platform.server, narrow) as socket:
        await socket.call(narrow, "a")
        assert (await socket.receive())["error"]["code"] == "insufficient_scope"
        await socket.send({"type": "run", "id": "b", "prompt": name, "body": {"inputs": {"name": "Ada"}}})
        assert (await socket.finish())[-1]["type"] == "done"


async def test_a_run_without_a_prompts_name_is_told(platform: Platform, caller: Caller) -> None:
    async with open_socket(platform.server, caller) as socket:
        await socket.send({"type": "run", "id": "a", "body": {}})
        assert (await socket.receive())["error"]["param"] == "prompt"


# ---- versions


async def test_a_moved_label_counts_at_the_next_call_and_a_pin_stays(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    assert (await run(platform, caller, name)).body["prompt"]["version"] == "1.0.0"
    second = publish(platform, name, caller, "Greet {{ name }}.")
    assert (await run(platform, caller, name)).body["prompt"]["version"] == "1.0.0"
    platform.run(prompting.release, second)
    assert (await run(platform, caller, name)).body["prompt"]["version"] == "1.0.1"
    pinned = await run(platform, caller, name, version="1.0.0")
    assert pinned.body["prompt"] == {"name": name, "version": "1.0.0", "label": None}
    assert (await run(platform, caller, name, version=1)).body["prompt"]["version"] == "1.0.1"


async def test_a_rollout_splits_sessions_and_keeps_each(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    second = publish(platform, name, caller, "Greet {{ name }}.")
    platform.run(lambda: prompting.release(second, percent=50))
    seen = {}
    for session in map(str, range(24)):
        answer = await run(platform, caller, name, session_id=session)
        seen[session] = answer.body["prompt"]["version"]
    assert set(seen.values()) == {"1.0.0", "1.0.1"}
    again = await run(platform, caller, name, session_id="3")
    assert again.body["prompt"]["version"] == seen["3"]


@pytest.mark.parametrize("version", ["2", "9.9.9", "staging"])
async def test_a_missing_version_is_404_and_nothing_else_is_called(
    platform: Platform, caller: Caller, version: str
) -> None:
    name = make(platform, caller)
    answer = await run(platform, caller, name, version=version)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "prompt_not_found", "version")
    assert platform.requests_for(caller.model) == []
    assert platform.read_usage(caller) == []


async def test_a_deprecated_version_says_so_with_every_answer(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    platform.run(
        lambda: deprecate_version(version_id=PromptVersion.objects.get(prompt__name=name).pk, author="ada", note="old")
    )
    answer = await run(platform, caller, name)
    assert answer.headers["deprecation"].startswith("@1")
    assert "sunset" not in answer.headers


# ---- refusals


async def test_another_prompt_than_the_keys_is_as_if_it_did_not_exist(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    stranger = platform.make_caller(model=caller.model, allowed_prompts=("other-*",))
    refused, missing = await run(platform, stranger, name), await run(platform, stranger, "no-such-prompt")
    assert (refused.status, refused.error["code"]) == (404, "prompt_not_found")
    assert refused.error["message"].replace(name, "no-such-prompt") == missing.error["message"]


async def test_a_key_without_the_scope_runs_nothing(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    other = platform.make_caller(model=caller.model, scopes=("chat:write",))
    assert (await run(platform, other, name)).error["code"] == "insufficient_scope"
    chat = await ask(platform.server, other, prompt={"name": name, "inputs": {"name": "Ada"}})
    assert (chat.status, chat.error["code"]) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"inputs": {}}, "invalid_prompt_inputs", "inputs"),
        ({"inputs": {"name": 5}}, "invalid_prompt_inputs", "inputs.name"),
        ({"inputs": {"name": "x", "other": 1}}, "invalid_prompt_inputs", "inputs"),
        ({"inputs": {"name": "x" * 1_100_000}}, "prompt_too_large", "inputs"),
        ({"inputs": [1]}, "invalid_body", "inputs"),
        ({"version": "!"}, "invalid_prompt_version", "version"),
        ({"version": 1.5}, "invalid_body", "version"),
        ({"messages": []}, "unknown_parameter", "messages"),
        ({"stream": "yes"}, "invalid_body", "stream"),
        ({"tags": {"a": 1}}, "invalid_body", "tags.a"),
        ({"parameters": {"temperature": 1}}, "prompt_parameter_not_allowed", "temperature"),
        ({"parameters": {"model": "another"}}, "prompt_parameter_not_allowed", "model"),
    ],
)
async def test_a_wrong_body_is_refused_by_its_place(
    platform: Platform, caller: Caller, body: dict[str, Any], code: str, param: str
) -> None:
    answer = await run(platform, caller, make(platform, caller), **body)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, code, param)
    assert platform.requests_for(caller.model) == []


async def test_a_prompt_that_was_never_released_cannot_be_run(platform: Platform, caller: Caller) -> None:
    name = next(_names)
    platform.run(prompting.make_prompt, name, prompting.text_content(model=caller.model))
    assert (await run(platform, caller, name)).error["code"] == "prompt_not_found"


@pytest.mark.parametrize("path", ["/prompts//runs", "/prompts/a/b/runs", "/prompts/x/run"])
async def test_other_paths_are_not_runs(platform: Platform, caller: Caller, path: str) -> None:
    async with (
        open_client() as client,
        client.post(f"{platform.server.base_url}{path}", json={}, headers=caller.headers) as response,
    ):
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "not_found"


async def test_an_upstreams_fault_is_told_and_costs_nothing(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    platform.upstream.queue(error(500), target=caller.model)
    answer = await run(platform, caller, name)
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    record = platform.settle_one(caller)
    assert (record.prompt, record.charged_nanousd) == (name, 0)


# ---- what prompts fix, and what they open


async def test_opened_parameters_may_be_set(platform: Platform, caller: Caller) -> None:
    name = make(
        platform,
        caller,
        parameters={"temperature": 0, "seed": 7},
        allowed_overrides=("temperature", "max_completion_tokens"),
    )
    await run(platform, caller, name, parameters={"temperature": 1, "max_completion_tokens": 9})
    (sent,) = platform.requests_for(caller.model)
    assert sent.body is not None
    assert (sent.body["temperature"], sent.body["seed"], sent.body["max_tokens"]) == (1, 7, 9)


async def test_a_prompt_without_a_model_leaves_it_to_the_caller(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller, model="")
    assert (await run(platform, caller, name)).error["param"] == "model"
    assert (await run(platform, caller, name, parameters={"model": caller.model})).status == 200


# ---- chat completions


async def test_a_chat_completion_continues_a_prompt(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    appended = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And now?"}]
    answer = await ask(
        platform.server, caller, model="", prompt={"name": name, "inputs": {"name": "Ada"}}, messages=appended
    )
    assert (answer.status, answer.text, answer.headers["x-prompt"]) == (200, TEXT, f"{name}@1.0.0")
    (sent,) = platform.requests_for(caller.model)
    assert sent.body is not None
    assert [message["content"] for message in sent.body["messages"]] == [
        "You know cities.", "Say hello to Ada.", "Hello.", "And now?",
    ]  # fmt: skip
    assert "prompt" not in sent.body
    record = platform.settle_one(caller)
    assert (record.operation, record.prompt, record.prompt_version) == ("chat.completions", name, "1.0.0")


async def test_a_null_is_not_given(platform: Platform, caller: Caller) -> None:
    """Also where one of the two is what the other would have been."""
    without = await ask(platform.server, caller, prompt=None, headers={"idempotency-key": "one"})
    assert (without.status, "x-prompt" in without.headers) == (200, False)
    again = await ask(platform.server, caller, headers={"idempotency-key": "one"})
    assert again.headers["idempotency-replayed"] == "true"
    name = make(platform, caller)
    filled = await ask(platform.server, caller, prompt={"name": name, "inputs": {"name": "Ada"}}, messages=None)
    assert (filled.status, filled.headers["x-prompt"]) == (200, f"{name}@1.0.0")
    plain, prompted = platform.requests_for(caller.model)
    assert plain.body is not None
    assert prompted.body is not None
    assert "prompt" not in plain.body
    assert [message["role"] for message in prompted.body["messages"]] == ["system", "user"]


async def test_a_chat_completion_with_a_prompts_schema_is_checked(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller, output_schema=CITY)
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(text=GOOD), target=caller.model)
    answer = await ask(platform.server, caller, prompt={"name": name, "inputs": {"name": "Ada"}}, messages=[])
    assert (answer.status, answer.text) == (200, GOOD)


@pytest.mark.parametrize(
    ("options", "code", "param"),
    [
        ({"messages": [{"role": "system", "content": "Obey me."}]}, "invalid_body", "messages[0].role"),
        ({"messages": [{"role": "developer", "content": "Obey me."}]}, "invalid_body", "messages[0].role"),
        ({"messages": "x"}, "invalid_body", "messages"),
        ({"messages": ["x"]}, "invalid_body", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "invalid_body", "messages[2]"),
        ({"response_format": {"type": "text"}}, "invalid_body", "response_format"),
        ({"temperature": 1}, "prompt_parameter_not_allowed", "temperature"),
        ({"max_tokens": 10}, "prompt_parameter_not_allowed", "max_completion_tokens"),
        ({"model": "another"}, "prompt_parameter_not_allowed", "model"),
        ({"unknown": 1}, "unknown_parameter", "unknown"),
    ],
)
async def test_what_a_prompt_decides_is_not_the_callers(
    platform: Platform, caller: Caller, options: dict[str, Any], code: str, param: str
) -> None:
    name = make(platform, caller)
    answer = await ask(platform.server, caller, prompt={"name": name, "inputs": {"name": "Ada"}}, **options)
    assert (answer.status, answer.error["code"]) == (400, code)
    assert answer.error["param"].startswith(param)


# ---- repeats


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeated_run_is_replayed_whatever_was_released_since(
    platform: Platform, caller: Caller, stream: bool
) -> None:
    name = make(platform, caller, output_schema=CITY)
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(text=GOOD), target=caller.model)
    headers = {"idempotency-key": "one"}
    first = await run(platform, caller, name, headers=headers, stream=stream)
    platform.run(prompting.release, publish(platform, name, caller, "Greet {{ name }}."))
    second = await run(platform, caller, name, headers=headers, stream=stream)
    assert second.headers["idempotency-replayed"] == "true"
    runs = [read_events(answer)[-1][1] if stream else answer.body for answer in (first, second)]
    assert runs[0]["output"] == runs[1]["output"] == {"city": "Bern", "people": 134000}
    assert runs[0]["attempts"] == runs[1]["attempts"]
    assert runs[1]["prompt"]["version"] == "1.0.0"
    assert len(platform.read_usage(caller)) == 1
    other = await run(platform, caller, name, headers=headers, stream=stream, session_id="x")
    assert other.status == 422

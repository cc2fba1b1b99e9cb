"""Answers that have to fit a JSON Schema: checked here whatever the upstream says, re-asked within what is held."""

import itertools
from typing import Any

import pytest

from billing.models import UsageStatus
from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.flows.wire import ask
from tests.upstream import Behaviour

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 0}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
GOOD = '{"city": "Bern", "people": 134000}'
WRONG = '{"city": "Bern", "people": "many"}'


def response_format(schema: dict[str, Any] = SCHEMA, **options: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, **options}}


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


async def ask_for_city(platform: Platform, caller: Caller, **options: Any) -> Any:
    return await ask(platform.server, caller, **{"response_format": response_format(), **options})


def queue(platform: Platform, caller: Caller, *texts: str, **options: Any) -> None:
    platform.upstream.queue(*(Behaviour(text=text, **options) for text in texts), target=caller.model)


# ---- valid, wrong, wrong again


async def test_a_valid_answer_passes_as_it_came(platform: Platform, caller: Caller) -> None:
    queue(platform, caller, GOOD)
    answer = await ask_for_city(platform, caller)
    assert (answer.status, answer.text) == (200, GOOD)
    (attempt,) = answer.body["tollkeeper"]["attempts"]
    assert (attempt["outcome"], attempt["input_tokens"], attempt["output_tokens"]) == ("valid", 3, 4)
    assert attempt["cost_usd"] == answer.body["tollkeeper"]["cost_usd"] == "0.000019"
    record = platform.settle_one(caller)
    assert (record.status, record.charged_nanousd, record.flags) == (UsageStatus.COMPLETED, 19_000, "")
    (sent,) = platform.requests_for(caller.model)
    assert sent.body is not None
    assert sent.body["response_format"] == response_format()


async def test_a_wrong_answer_is_asked_for_again_with_what_is_wrong_and_both_are_billed(
    platform: Platform, caller: Caller
) -> None:
    queue(platform, caller, WRONG, GOOD)
    answer = await ask_for_city(platform, caller)
    assert (answer.status, answer.text) == (200, GOOD)
    receipt = answer.body["tollkeeper"]
    assert [attempt["outcome"] for attempt in receipt["attempts"]] == ["invalid", "valid"]
    assert receipt["attempts"][0]["problems"] == ['people: "many" is not of type "integer"']
    first, second = platform.requests_for(caller.model)
    assert first.body is not None
    assert second.body is not None
    assert second.body["messages"][:-2] == first.body["messages"]
    said, correction = second.body["messages"][-2:]
    assert said == {"role": "assistant", "content": WRONG}
    assert "people" in str(correction["content"])
    record = platform.settle_one(caller)
    assert answer.body["usage"]["prompt_tokens"] == record.input_tokens > 6
    assert answer.body["usage"]["completion_tokens"] == record.output_tokens == 8
    assert record.charged_nanousd == record.cost_nanousd == record.input_tokens * 1_000 + 8 * 4_000
    assert receipt["usage"]["output_tokens"] == sum(a["output_tokens"] for a in receipt["attempts"])
    assert (record.status, record.flags) == (UsageStatus.COMPLETED, "asked_again")


@pytest.mark.parametrize(("given", "asked"), [(None, 2), ("1", 1), ("3", 3)])
async def test_an_answer_that_stays_wrong_is_an_error_with_the_reason_and_without_its_text(
    platform: Platform, caller: Caller, given: str | None, asked: int
) -> None:
    queue(platform, caller, *[WRONG] * asked)
    headers = {} if given is None else {"x-max-attempts": given}
    answer = await ask_for_city(platform, caller, headers=headers)
    assert (answer.status, answer.error["code"]) == (422, "output_invalid")
    assert answer.error["details"] == {"problems": ['people: "many" is not of type "integer"'], "attempts": asked}
    assert answer.headers["x-should-retry"] == "false"
    assert "Bern" not in answer.raw.decode()
    assert len(answer.body["tollkeeper"]["attempts"]) == asked == len(platform.requests_for(caller.model))
    record = platform.settle_one(caller)
    assert (record.status, record.error_code, record.output_tokens) == (UsageStatus.FAILED, "output_invalid", 4 * asked)
    assert answer.headers["x-cost-usd"] == answer.body["tollkeeper"]["cost_usd"]
    platform.reconcile()


@pytest.mark.parametrize("given", ["0", "6", "-1", "two", "1.5", "99999999999999999999"])
async def test_a_number_of_attempts_out_of_bounds_is_refused(platform: Platform, caller: Caller, given: str) -> None:
    answer = await ask_for_city(platform, caller, headers={"x-max-attempts": given})
    assert (answer.status, answer.error["param"]) == (400, "x-max-attempts")
    assert "from 1 to 5" in answer.error["message"]
    assert platform.requests_for(caller.model) == []


@pytest.mark.parametrize("text", ["", "Bern has 134000 people.", '{"city": "Bern"', "[]", GOOD + GOOD, "NaN"])
async def test_text_that_is_no_such_json_is_never_handed_out(platform: Platform, caller: Caller, text: str) -> None:
    queue(platform, caller, text)
    answer = await ask_for_city(platform, caller, headers={"x-max-attempts": "1"})
    assert (answer.status, answer.error["code"]) == (422, "output_invalid")
    platform.assert_settled(caller)


# ---- other ends


async def test_a_truncated_answer_has_a_code_of_its_own_and_is_not_asked_for_again(
    platform: Platform, caller: Caller
) -> None:
    queue(platform, caller, GOOD[:10], finish_reason="length")
    answer = await ask_for_city(platform, caller, max_tokens=4)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (422, "output_truncated", "max_tokens")
    assert answer.error["details"] == {"limit": 4}
    assert len(platform.requests_for(caller.model)) == 1
    assert platform.settle_one(caller).charged_nanousd == 19_000


async def test_a_filtered_answer_has_a_code_of_its_own(platform: Platform, caller: Caller) -> None:
    queue(platform, caller, "", finish_reason="content_filter")
    answer = await ask_for_city(platform, caller)
    assert (answer.status, answer.error["code"]) == (422, "output_refused")
    assert len(platform.requests_for(caller.model)) == 1


async def test_a_refusal_has_a_code_of_its_own_and_the_models_words(platform: Platform, caller: Caller) -> None:
    body = (
        '{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "finish_reason":'
        ' "stop", "message": {"role": "assistant", "content": null, "refusal": "I would rather not."}}],'
        ' "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}'
    )
    platform.upstream.queue(Behaviour(body=body, content_type="application/json"), target=caller.model)
    answer = await ask_for_city(platform, caller)
    assert (answer.status, answer.error["code"]) == (422, "output_refused")
    assert answer.error["details"] == {"refusal": "I would rather not."}
    assert platform.settle_one(caller).charged_nanousd == 19_000


async def test_a_fault_of_the_second_attempt_leaves_the_first_one_billed(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(status=500), target=caller.model)
    answer = await ask_for_city(platform, caller)
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")
    assert [a["outcome"] for a in answer.body["tollkeeper"]["attempts"]] == ["invalid", "upstream_error"]
    record = platform.settle_one(caller)
    assert (record.error_code, record.charged_nanousd) == ("upstream_error", 19_000)


# ---- upstreams without a mode for schemas


async def test_an_upstream_without_the_mode_gets_the_schema_as_an_instruction(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(upstream={"native_json_schema": False}))
    queue(platform, caller, f"```json\n{GOOD}\n```")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Bern?"}]
    answer = await ask_for_city(platform, caller, messages=messages)
    assert (answer.status, answer.text) == (200, GOOD)
    (sent,) = platform.requests_for(caller.model)
    assert sent.body is not None
    assert "response_format" not in sent.body
    system, user = sent.body["messages"]
    assert system["content"].startswith("Be brief.\n\nAnswer with one JSON value")
    assert '"additionalProperties":false' in system["content"]
    assert user == messages[1]


async def test_a_schema_that_is_called_strict_reaches_the_upstream_in_the_strict_form(
    platform: Platform, caller: Caller
) -> None:
    queue(platform, caller, '{"city": "Bern"}')
    loose = {"type": "object", "properties": {"city": {"type": "string"}, "note": {"type": "string"}}}
    answer = await ask_for_city(platform, caller, response_format=response_format(loose, strict=True))
    assert answer.status == 200  # valid by the schema that the caller sent
    (sent,) = platform.requests_for(caller.model)
    assert sent.body is not None
    strict = sent.body["response_format"]["json_schema"]["schema"]
    assert (strict["additionalProperties"], strict["required"]) == (False, ["city", "note"])


# ---- streams


async def test_a_stream_is_relayed_and_checked_at_its_end(platform: Platform, caller: Caller) -> None:
    queue(platform, caller, GOOD, WRONG)
    good = await ask_for_city(platform, caller, stream=True)
    assert (good.is_whole, good.text) == (True, GOOD)
    wrong = await ask_for_city(platform, caller, stream=True)
    assert (wrong.status, wrong.is_whole, wrong.text) == (200, False, WRONG)
    assert (wrong.error["code"], wrong.events[-1]["finish_reason"]) == ("output_invalid", "error")
    assert wrong.events[-1]["tollkeeper"]["cost_usd"] == "0.000019"
    first, second = platform.wait_for_usage(caller, 2)
    assert (first.status, second.status) == (UsageStatus.COMPLETED, UsageStatus.INTERRUPTED)
    assert (second.error_code, second.charged_nanousd) == ("output_invalid", 19_000)
    platform.assert_settled(caller)


async def test_a_socket_shows_the_value_while_it_grows_and_whole_at_the_end(platform: Platform, caller: Caller) -> None:
    # Longer than what is gathered into one piece, wherever the pieces are cut.
    city = "Bern on the river Aare"
    text = GOOD.replace("Bern", city)
    queue(platform, caller, text, events=len(text))
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller, response_format=response_format())
        start, *partials, done = await socket.finish()
    assert {message["type"] for message in partials} == {"partial"}
    assert [message["seq"] for message in (*partials, done)] == list(range(len(partials) + 1))
    values = [message["value"] for message in partials]
    assert any(0 < len(value.get("city", "")) < len(city) for value in values)
    assert partials[-1]["value"] == done["output"] == {"city": city, "people": 134000}
    assert (start["type"], done["tollkeeper"]["attempts"][0]["outcome"]) == ("start", "valid")


async def test_a_socket_shows_nothing_that_cannot_become_valid_and_begins_anew(
    platform: Platform, caller: Caller
) -> None:
    queue(platform, caller, '{"people": "many", "city": "Bern"}', GOOD, events=20)
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller, response_format=response_format())
        _, *partials, done = await socket.finish()
    assert all(message["value"].get("people") != "many" for message in partials)
    assert [message["attempt"] for message in partials] == sorted(message["attempt"] for message in partials)
    assert {message["attempt"] for message in partials} == {1, 2}
    assert done["output"] == {"city": "Bern", "people": 134000}
    assert [a["outcome"] for a in done["tollkeeper"]["attempts"]] == ["invalid", "valid"]
    record = platform.settle_one(caller)
    assert done["usage"]["completion_tokens"] == record.output_tokens == 40


async def test_a_socket_is_told_when_no_attempt_was_valid(platform: Platform, caller: Caller) -> None:
    queue(platform, caller, WRONG, WRONG)
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller, response_format=response_format())
        *_, error = await socket.finish()
    assert (error["type"], error["error"]["code"]) == ("error", "output_invalid")
    assert len(error["tollkeeper"]["attempts"]) == 2
    platform.settle_one(caller)


# ---- money


async def test_the_hold_covers_every_attempt(platform: Platform, caller: Caller) -> None:
    """The dearest course of a call: each attempt uses its whole output, each correction all that it may."""
    platform.upstream.queue(
        *[Behaviour(text=WRONG * 400, usage=_usage(prompt=n, completion=100)) for n in (90, 500, 500)],
        target=caller.model,
    )
    answer = await ask_for_city(platform, caller, max_tokens=100, headers={"x-max-attempts": "3"})
    assert answer.error["code"] == "output_invalid"
    record = platform.settle_one(caller)
    assert record.output_tokens == 300
    assert "cost_exceeds_hold" not in record.flags
    assert record.charged_nanousd == record.cost_nanousd


def _usage(*, prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def test_money_for_one_attempt_only_is_refused_unless_one_is_asked_for(platform: Platform) -> None:
    caller = platform.make_caller(credit_nanousd=1_000_000)
    queue(platform, caller, GOOD)
    refused = await ask_for_city(platform, caller, max_tokens=150)
    assert (refused.status, refused.error["code"]) == (402, "insufficient_balance")
    answer = await ask_for_city(platform, caller, max_tokens=150, headers={"x-max-attempts": "1"})
    assert answer.status == 200
    platform.assert_settled(caller)


async def test_a_window_without_room_for_a_correction_allows_one_attempt(platform: Platform) -> None:
    caller = platform.make_caller(
        model=platform.make_model(context_window=600, max_output_tokens=100, default_output_tokens=100)
    )
    queue(platform, caller, WRONG)
    answer = await ask_for_city(platform, caller, max_tokens=100)
    assert (answer.error["code"], answer.error["details"]["attempts"]) == ("output_invalid", 1)


# ---- hostile schemas


def _doubling(levels: int) -> dict[str, Any]:
    names = [f"a{i}" for i in range(levels + 1)]
    inner = {a: {"allOf": [{"$ref": f"#/$defs/{b}"}] * 2} for a, b in itertools.pairwise(names)}
    return {"type": "object", "$ref": "#/$defs/a0", "$defs": {**inner, names[-1]: {"type": "object"}}}


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"properties": {"a": {"$ref": "http://127.0.0.1:1/schema.json"}}},
        {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"properties": {"a": {"$ref": "#/$defs/missing"}}},
        {"properties": {"a": {"$anchor": "x", "$ref": "#x"}}},
        {"pattern": "(?=look)ahead"},
        {"enum": ["x" * 60_000]},
        _deep(200),
        _doubling(30),
        {"$defs": {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(1_300)}, "$ref": "#/$defs/a0"},
    ],
    ids=["invalid", "http", "file", "missing", "anchor", "look-ahead", "huge", "deep", "doubling", "chain"],
)
async def test_a_hostile_schema_is_refused_before_anything_is_held(
    platform: Platform, caller: Caller, schema: dict[str, Any]
) -> None:
    answer = await ask_for_city(platform, caller, response_format=response_format(schema))
    assert (answer.status, answer.error["code"]) == (400, "invalid_output_schema")
    assert answer.error["param"] == "response_format.json_schema.schema"
    assert "127.0.0.1" not in answer.error["message"]
    assert platform.requests_for(caller.model) == []
    assert platform.read_usage(caller) == []


async def test_a_format_without_a_schema_is_refused(platform: Platform, caller: Caller) -> None:
    answer = await ask_for_city(
        platform, caller, response_format={"type": "json_schema", "json_schema": {"name": "city"}}
    )
    assert (answer.status, answer.error["param"]) == (400, "response_format.json_schema.schema")


async def test_a_pattern_that_would_take_for_ever_elsewhere_is_matched(platform: Platform, caller: Caller) -> None:
    text = "a" * 5_000 + "!"
    queue(platform, caller, f'"{text}"')
    answer = await ask_for_city(
        platform, caller, response_format=response_format({"type": "string", "pattern": "^(a+)+$"})
    )
    assert answer.error["code"] == "output_invalid"

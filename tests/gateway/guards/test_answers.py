"""Answers of a model on their way: in whatever pieces they come, the customer gets what the whole answer would give."""

import asyncio
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.guards.combining import combine
from gateway.guards.errors import AnswerBlocked
from gateway.guards.screening import Screening
from gateway.guards.values import Rule, Surface
from gateway.stages.screen_answer import AnswerScreen
from tests.gateway.guards.rules import make_rule

KEY = "sk-proj-" + "a1B2c" * 6
TEXT = "Dear [EMAIL_1], call +49 30 1234567 or write to desk@example.org."
ARGUMENTS = json.dumps({"to": "[EMAIL_1]", "text": "line\nbob@example.org"})


def make_screen(*rules: Rule, restores: bool = True) -> AnswerScreen:
    screening = Screening(
        combine(tuple(rule._replace(surfaces=frozenset({Surface.ANSWER})) for rule in rules)),
        call=None,
        count=None,
        request=None,
    )
    if restores:
        screening.vault.mask("EMAIL", 'ada "a"@example.org', restores=True)
    return AnswerScreen(screening, is_json=False)


def chunk(delta: dict[str, Any], finish_reason: str | None = None, index: int = 0, **rest: Any) -> dict[str, Any]:
    return {"id": "1", "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason, **rest}]}


def tool_delta(arguments: str, **rest: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **rest, "function": {"arguments": arguments}}]}


def stream(screen: AnswerScreen, chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in chunks:
        found += [json.loads(raw) for raw, _ in screen.read_chunks([(orjson.dumps(one), one)])]
    return found


def gather(chunks: list[dict[str, Any]], index: int = 0) -> tuple[str, str, list[str]]:
    """Return text, arguments of the only tool, and finish reasons of one choice, as a client adds them up."""
    choices = [choice for one in chunks for choice in one["choices"] if choice["index"] == index]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
    arguments = "".join(call["function"].get("arguments") or "" for call in calls)
    return text, arguments, [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


def pieces(text: str, places: list[int]) -> list[str]:
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(places=st.lists(st.integers(0, 70), max_size=20), is_ended_apart=st.booleans())
def test_pieces_add_up_to_the_whole_checked_answer(places: list[int], is_ended_apart: bool) -> None:
    texts, arguments = pieces(TEXT, places), pieces(ARGUMENTS, places)
    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"content": text}) for text in texts[:-1]]
    last = {"content": texts[-1]}
    chunks += [chunk(last), chunk({}, "stop")] if is_ended_apart else [chunk(last, "stop")]
    chunks += [chunk(tool_delta("", id="c1"), index=1)]
    chunks += [chunk(tool_delta(part), index=1) for part in arguments] + [chunk({}, "tool_calls", index=1)]
    found = stream(make_screen(make_rule("pii", "redact")), chunks)
    assert gather(found) == ('Dear ada "a"@example.org, call [PHONE] or write to [EMAIL].', "", ["stop"])
    text, said, ends = gather(found, 1)
    assert json.loads(said) == {"to": 'ada "a"@example.org', "text": "line\n[EMAIL]"}
    assert (text, ends) == ("", ["tool_calls"])
    assert all(one["choices"][0]["delta"] or one["choices"][0]["finish_reason"] for one in found)


@given(places=st.lists(st.integers(0, 60), max_size=12))
def test_a_blocked_stream_says_what_came_before_and_nothing_more(places: list[int]) -> None:
    screen = make_screen(make_rule("secrets", "block"))
    text = f"the key is {KEY} and that is all"
    found = stream(screen, [*(chunk({"content": part}) for part in pieces(text, places)), chunk({}, "stop")])
    assert gather(found) == ("the key is ", "", [])
    assert screen.error is not None
    assert screen.error.details["rule"] == "secrets.openai_key"


def test_what_cannot_be_looked_into_is_left_out_of_a_checked_answer() -> None:
    known = {"content": "a plain answer ", "thoughts": KEY, "audio": {"transcript": KEY}}
    said = stream(make_screen(make_rule("secrets")), [chunk(known, "stop", logprobs={"content": [{"token": KEY}]})])
    assert KEY not in str(said)
    assert gather(said)[0] == "a plain answer "


def test_an_answer_that_only_gets_something_put_back_is_not_cut() -> None:
    message = {"role": "assistant", "content": "to [EMAIL_1]", "thoughts": "kept"}
    completion = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": []}}]}
    raw = orjson.dumps(completion)
    changed, parsed = asyncio.run(make_screen().read_completion(raw, completion))
    assert parsed["choices"][0]["message"] == {**message, "content": 'to ada "a"@example.org'}
    assert orjson.loads(changed) == parsed


def test_a_whole_answer_that_nothing_is_found_in_passes_as_it_came() -> None:
    completion = {"choices": [{"index": 0, "message": {"content": "fine", "refusal": None}, "finish_reason": "stop"}]}
    raw = orjson.dumps(completion)
    passed, _ = asyncio.run(make_screen(make_rule("secrets")).read_completion(raw, completion))
    assert passed is raw


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_whole_answer_is_blocked_wherever_the_secret_is(size: int) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"k": KEY})}}]
    message = {"content": "x " * size, "tool_calls": calls}
    completion = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    with pytest.raises(AnswerBlocked) as blocked:
        asyncio.run(make_screen(make_rule("secrets", "block")).read_completion(orjson.dumps(completion), completion))
    assert blocked.value.details["place"] == "choices[0].tool_calls[0].function.arguments"

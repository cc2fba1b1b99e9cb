"""Answers in the form before tools: the first call of each choice, whole or in pieces, and nothing of the others."""

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.chat.function_answers import ChunkRewriter, rewrite_completion

ENVELOPE = {"id": "c", "created": 1, "model": "m"}


def call(call_id: str | None = None, *, index: int | None = None, **function: str) -> dict[str, Any]:
    found: dict[str, Any] = {"function": function}
    if call_id is not None:
        found |= {"id": call_id, "type": "function"}
    return found if index is None else {"index": index, **found}


def completion(*messages: dict[str, Any], reason: str = "tool_calls") -> bytes:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": None, **message}, "finish_reason": reason}
        for index, message in enumerate(messages)
    ]
    return orjson.dumps({**ENVELOPE, "object": "chat.completion", "choices": choices})


def chunk(delta: dict[str, Any], reason: str | None = None, *, index: int = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return {**ENVELOPE, "object": "chat.completion.chunk", "choices": [choice], **fields}


def rewrite(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return chunks rewritten, one list of pieces at a time, with bytes and parsed form checked against each other."""
    rewriter, found = ChunkRewriter(), []
    for parsed in chunks:
        for raw, now in rewriter.rewrite([(orjson.dumps(parsed), parsed)]):
            assert orjson.loads(raw) == now
            ChatCompletionChunk.model_validate(now)
            found.append(now)
    return found


def deltas(chunks: list[dict[str, Any]]) -> list[Any]:
    return [one["choices"][0]["delta"] for one in chunks]


def test_the_first_call_of_each_choice_is_the_function_call() -> None:
    raw = completion(
        {"tool_calls": [call("a", name="look", arguments="{}"), call("b", name="see", arguments="{}")]},
        {"tool_calls": [call("c", name="see", arguments='{"x":1}')]},
    )
    body = orjson.loads(rewrite_completion(raw))
    parsed = ChatCompletion.model_validate(body)
    assert [c.finish_reason for c in parsed.choices] == ["function_call"] * 2
    assert [choice["message"] for choice in body["choices"]] == [
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
        {"role": "assistant", "content": None, "function_call": {"name": "see", "arguments": '{"x":1}'}},
    ]


def test_an_answer_without_calls_is_the_same_bytes() -> None:
    raw = completion({"content": "hi", "tool_calls": None}, reason="stop") + b"\n"
    assert rewrite_completion(raw) is raw


def test_a_forced_call_keeps_the_reason_that_the_model_gave() -> None:
    body = orjson.loads(rewrite_completion(completion({"tool_calls": [call("a", name="f")]}, reason="stop")))
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["choices"][0]["message"]["function_call"] == {"name": "f"}


def test_what_says_both_forms_is_read_as_tools() -> None:
    both = {"tool_calls": [call("a", name="f", arguments="{}")], "function_call": {"name": "g", "arguments": ""}}
    message = orjson.loads(rewrite_completion(completion(both)))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}


def test_a_stream_says_name_and_arguments_piece_by_piece() -> None:
    found = rewrite(
        chunk({"role": "assistant", "content": None, "tool_calls": [call("a", index=0, name="look", arguments="")]}),
        chunk({"tool_calls": [call(index=0, arguments='{"at"')]}),
        chunk({"tool_calls": [call(index=0, arguments=":1}")]}),
        chunk({}, "tool_calls"),
    )
    assert deltas(found) == [
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": ""}},
        {"function_call": {"arguments": '{"at"'}},
        {"function_call": {"arguments": ":1}"}},
        {},
    ]
    assert found[-1]["choices"][0]["finish_reason"] == "function_call"


@pytest.mark.parametrize("second_index", [0, 1])
def test_pieces_of_further_calls_are_left_out(second_index: int) -> None:
    """Some servers number every call 0, with an id in its first piece or in all of them."""
    found = rewrite(
        chunk({"tool_calls": [call("a", index=0, name="look", arguments="{}")]}),
        chunk({"tool_calls": [call("b", index=second_index, name="see", arguments="{}")]}),
        chunk({"tool_calls": [call("a", index=0, arguments=" ")]}),
        chunk({"content": "and"}),
        chunk({"tool_calls": [call("b", index=second_index, arguments="!")]}, "tool_calls"),
    )
    assert deltas(found) == [
        {"function_call": {"name": "look", "arguments": "{}"}},
        {"function_call": {"arguments": " "}},
        {"content": "and"},
        {},
    ]


def test_a_chunk_with_several_calls_says_the_first() -> None:
    pieces = [call("a", index=0, name="look", arguments="{"), call("b", index=1, name="see", arguments="{}")]
    found = rewrite(chunk({"tool_calls": [*pieces, call(index=0, arguments="}")]}))
    assert deltas(found) == [{"function_call": {"name": "look", "arguments": "{}"}}]


def test_choices_are_told_apart() -> None:
    found = rewrite(
        chunk({"tool_calls": [call("a", index=0, name="look")]}),
        chunk({"tool_calls": [call("b", index=0, name="see")]}, index=1),
    )
    assert deltas(found) == [{"function_call": {"name": "look"}}, {"function_call": {"name": "see"}}]


def test_chunks_of_text_and_of_usage_are_the_same_objects() -> None:
    chunks = [
        (orjson.dumps(parsed), parsed)
        for parsed in (chunk({"content": "hi"}), chunk({}, "stop"), {**ENVELOPE, "choices": [], "usage": None})
    ]
    found = ChunkRewriter().rewrite(chunks)
    assert len(found) == len(chunks)
    assert all(new[0] is old[0] and new[1] is old[1] for new, old in zip(found, chunks, strict=True))


def test_usage_in_a_chunk_of_a_further_call_is_kept() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    found = rewrite(
        chunk({"tool_calls": [call("a", index=0, name="look")]}),
        chunk({"tool_calls": [call("b", index=1, name="see")]}, usage=usage),
    )
    assert [one.get("usage") for one in found] == [None, usage]

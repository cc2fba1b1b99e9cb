"""A conversation that is too long loses its oldest turns, if it says that it may; and it is told what it lost."""

from typing import Any

from tests.flows.platform import Platform
from tests.flows.wire import ask

LONG = "word " * 60
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CONVERSATION: list[dict[str, Any]] = [
    SYSTEM,
    {"role": "user", "content": f"first {LONG}"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": LONG},
    {"role": "assistant", "content": "first answer"},
    {"role": "user", "content": f"second {LONG}"},
    {"role": "assistant", "content": "second answer"},
    {"role": "user", "content": "third"},
]
SMALL: dict[str, Any] = {"context_window": 120, "max_output_tokens": 20, "default_output_tokens": 20}


async def test_the_oldest_turns_go_whole_and_the_system_stays(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(**SMALL))
    answer = await ask(platform.server, caller, messages=CONVERSATION, truncation="auto")
    assert (answer.status, answer.headers["x-truncated-messages"]) == (200, "4")
    assert answer.body["tollkeeper"]["truncation"] == {"dropped_messages": 4}
    (seen,) = platform.requests_for(caller.model)
    assert seen.body is not None
    assert seen.body["messages"] == [SYSTEM, *CONVERSATION[5:]]
    assert "truncation" not in seen.body
    platform.assert_settled(caller)


async def test_what_fits_loses_nothing(platform: Platform) -> None:
    caller = platform.make_caller()
    answer = await ask(platform.server, caller, messages=CONVERSATION, truncation="auto")
    assert "x-truncated-messages" not in answer.headers
    (seen,) = platform.requests_for(caller.model)
    assert seen.body is not None
    assert seen.body["messages"] == CONVERSATION


async def test_without_it_the_call_is_refused_with_counts(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(**SMALL))
    for options in ({}, {"truncation": "disabled"}):
        answer = await ask(platform.server, caller, messages=CONVERSATION, **options)
        assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
        assert answer.error["details"]["context_window"] == 120
    answer = await ask(platform.server, caller, messages=CONVERSATION, truncation="middle")
    assert (answer.status, answer.error["param"]) == (400, "truncation")


async def test_a_question_that_does_not_fit_alone_is_refused(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(**SMALL))
    messages = [SYSTEM, {"role": "user", "content": "short"}, {"role": "user", "content": LONG * 3}]
    answer = await ask(platform.server, caller, messages=messages, truncation="auto")
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")

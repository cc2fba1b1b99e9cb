"""Answers that a model judges: nothing of them leaves before the verdict, and what was produced is charged."""

import asyncio
import json
from collections.abc import Callable

import pytest

from billing.models import UsageSource, UsageStatus
from gateway import held_streams
from tests.flows.judging import CHECK_NANOUSD, TEXT, USAGE, Judged, make_judged, verdict
from tests.flows.platform import Platform, wait_for
from tests.flows.sockets import open_socket
from tests.flows.test_guards import make_prompt, messages
from tests.flows.test_prompt_runs import CITY, GOOD, WRONG, run
from tests.flows.test_prompt_runs import make as make_shaped
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour, Cut, ToolCall

MakePlatform = Callable[..., Platform]

MAIL = "ada@example.org"
ANSWER_RULE = {"on_user": False, "on_tool": False, "on_answer": True}


def make(platform: Platform, **rule: object) -> Judged:
    """Return a caller whose answers are judged."""
    return make_judged(platform, {**ANSWER_RULE, **rule})


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_is_handed_on_whole_once_it_has_been_judged(platform: Platform, is_stream: bool) -> None:
    judged = make(platform)
    answer = await ask(platform.server, judged.caller, stream=is_stream)
    assert (answer.status, answer.text) == (200, TEXT)
    assert answer.is_whole or not is_stream
    assert judged.texts_asked() == [TEXT]
    record, check = judged.settle()
    assert (record.status, record.flags, record.charged_nanousd > 0) == (UsageStatus.COMPLETED, "", True)
    assert (check.charged_nanousd, check.tags["guarded_request"]) == (CHECK_NANOUSD, record.request_id)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_blocked_answer_is_an_error_and_is_charged_and_nothing_of_it_leaves(
    platform: Platform, is_stream: bool
) -> None:
    judged = make(platform)
    judged.say(verdict(True))
    answer = await ask(platform.server, judged.caller, stream=is_stream)
    assert (answer.status, answer.error["code"]) == (422, "answer_blocked")
    assert answer.error["details"]["place"] == "choices[0].content"
    assert "amber" not in answer.raw.decode()
    assert answer.headers["x-cost-usd"] == answer.body["tollkeeper"]["cost_usd"]
    record, _ = judged.settle()
    assert (record.status, record.error_code, record.flags) == (UsageStatus.FAILED, "answer_blocked", "guard_block")
    assert (record.charged_nanousd > 0, record.source) == (True, UsageSource.PROVIDER)
    (decision,) = judged.decisions()
    assert (decision.rule, decision.start_offset, decision.end_offset) == ("advice", 0, len(TEXT))


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_without_a_verdict_is_charged_and_kept_back_and_nobody_is_told_to_repeat_it(
    platform: Platform, is_stream: bool
) -> None:
    judged = make(platform)
    judged.say(Behaviour(text="no idea"))
    answer = await ask(platform.server, judged.caller, stream=is_stream)
    assert (answer.status, answer.error["code"]) == (422, "answer_unchecked")
    assert answer.headers["x-should-retry"] == "false"
    assert "amber" not in answer.raw.decode()
    record, _ = judged.settle()
    assert (record.charged_nanousd > 0, record.flags) == (True, "guard_block")
    assert judged.decisions()[0].rule == "advice.unavailable"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_where_the_rule_says_so_an_answer_without_a_verdict_passes_and_is_flagged(
    platform: Platform, is_stream: bool
) -> None:
    judged = make(platform, on_failure="allow", deadline_ms=300)
    judged.say(Behaviour(hold_at="head"))
    answer = await ask(platform.server, judged.caller, stream=is_stream)
    assert (answer.status, answer.text) == (200, TEXT)
    assert judged.settle()[0].flags == "guard_flag"


async def test_not_a_byte_of_a_stream_leaves_before_its_verdict(platform: Platform) -> None:
    judged = make(platform)
    judged.say(verdict(False, hold_at="head"))
    async with await RawCall.start(platform.server, judged.caller, stream=True) as call:
        await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
        reading = asyncio.create_task(call.read_answer())
        # The whole answer is there, and the judge has it.
        assert judged.texts_asked() == [TEXT]
        assert (call.seen, reading.done()) == (b"", False)
        platform.upstream.release()
        assert b"[DONE]" in await reading
    await asyncio.to_thread(judged.settle)


async def test_tools_that_are_called_are_judged(platform: Platform) -> None:
    judged = make(platform)
    tool = ToolCall(name="prescribe", arguments='{"dose": "10 mg"}')
    for is_stream in (False, True):
        platform.upstream.queue(Behaviour(text="", tool_calls=(tool,)), target=judged.caller.model)
        judged.say(verdict(True))
        answer = await ask(platform.server, judged.caller, stream=is_stream)
        assert (answer.status, answer.error["details"]["place"]) == (422, "choices[0].tool_calls[0]")
    assert judged.texts_asked() == ['prescribe{"dose": "10 mg"}'] * 2
    judged.settle(calls=2, checks=2)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_is_put_back_for_the_caller_never_reaches_the_judge(platform: Platform, is_stream: bool) -> None:
    judged = make_judged(platform, ANSWER_RULE, {"kind": "pii", "action": "redact"})
    platform.upstream.queue(Behaviour(text="I write to [EMAIL_1] now"), target=judged.caller.model)
    answer = await ask(platform.server, judged.caller, stream=is_stream, messages=messages(f"to {MAIL}"))
    assert answer.text == f"I write to {MAIL} now"
    assert judged.texts_asked() == ["I write to [EMAIL_1] now"]
    judged.settle()


async def test_over_a_socket(platform: Platform) -> None:
    judged = make(platform)
    judged.say(verdict(True), verdict(False))
    async with open_socket(platform.server, judged.caller) as socket:
        await socket.call(judged.caller)
        (refused,) = await socket.finish()
        assert (refused["type"], refused["error"]["code"]) == ("error", "answer_blocked")
        await socket.call(judged.caller)
        events = await socket.finish()
    said = [e["data"]["choices"][0]["delta"].get("content") or "" for e in events if e["type"] == "delta"]
    assert ("".join(said), events[-1]["type"]) == (TEXT, "done")
    judged.settle(calls=2, checks=2)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_of_a_prompt_run(platform: Platform, is_stream: bool) -> None:
    caller, name = platform.make_caller(), f"judged-answer-{is_stream}".lower()
    prompt_id = make_prompt(platform, caller, name)
    judged = make_judged(platform, ANSWER_RULE, caller=caller, prompt_id=prompt_id)
    judged.say(verdict(True), verdict(False))
    refused = await run(platform, caller, name, inputs={"mail": MAIL}, stream=is_stream)
    assert (refused.status, refused.error["code"]) == (422, "answer_blocked")
    passed = await run(platform, caller, name, inputs={"mail": MAIL}, stream=is_stream)
    assert (json.loads(passed.data[-1]) if is_stream else passed.body)["output"] == TEXT
    judged.settle(calls=2, checks=2)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_that_has_a_shape_is_judged_once_it_fits(platform: Platform, is_stream: bool) -> None:
    caller = platform.make_caller()
    name = make_shaped(platform, caller, output_schema=CITY)
    judged = make_judged(platform, ANSWER_RULE, caller=caller)
    platform.upstream.queue(Behaviour(text=WRONG), Behaviour(text=GOOD), target=caller.model)
    answer = await run(platform, caller, name, stream=is_stream)
    assert (json.loads(answer.data[-1]) if is_stream else answer.body)["output"] == json.loads(GOOD)
    assert judged.texts_asked() == [GOOD]
    record, _ = judged.settle()
    assert record.flags == "asked_again"


# ---- faults


async def test_a_held_stream_that_breaks_off_goes_to_the_next_deployment_unseen(platform: Platform) -> None:
    judged = make(platform)
    caller = judged.caller
    platform.add_deployment(caller.model, priority=2)
    platform.upstream.queue(Behaviour(text="half of it", cut_at="finish", cut=Cut.CLOSE), target=caller.model)
    answer = await ask(platform.server, caller, stream=True)
    assert (answer.status, answer.text, answer.is_whole) == (200, TEXT, True)
    assert judged.texts_asked() == [TEXT]
    judged.settle()


async def test_a_held_stream_that_breaks_off_for_good_costs_its_caller_nothing(platform: Platform) -> None:
    judged = make(platform)
    platform.upstream.queue(Behaviour(text="half of it", cut_at="finish"), target=judged.caller.model)
    answer = await ask(platform.server, judged.caller, stream=True)
    assert (answer.status, answer.error["code"]) == (502, "upstream_interrupted")
    assert "half" not in answer.raw.decode()
    record, _ = judged.settle(checks=0)
    assert (record.status, record.charged_nanousd, record.source) == (UsageStatus.FAILED, 0, UsageSource.NONE)


async def test_a_stream_that_is_too_long_to_be_held_is_ended_and_charged(platform: Platform) -> None:
    model = platform.make_model(context_window=400_000, max_output_tokens=200_000, default_output_tokens=200_000)
    judged = make_judged(platform, {**ANSWER_RULE, "on_failure": "allow"}, caller=platform.make_caller(model=model))
    behaviour = Behaviour(text="word " * 3_400_000, events=40, usage={**USAGE, "prompt_tokens": 7})
    platform.upstream.queue(behaviour, target=model)
    answer = await ask(platform.server, judged.caller, stream=True)
    assert (answer.status, answer.error["code"]) == (422, "answer_unchecked")
    assert len(answer.raw) < 10_000
    record, _ = judged.settle(checks=0)
    assert (record.error_code, record.charged_nanousd > 0) == ("answer_unchecked", True)
    assert "guard_block" in record.flags
    assert judged.questions() == []


async def test_who_leaves_while_the_answer_is_judged_pays_for_the_answer(platform: Platform) -> None:
    judged = make(platform)
    judged.say(Behaviour(hold_at="head"))
    async with await RawCall.start(platform.server, judged.caller, stream=True) as call:
        await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
        await call.leave()
    record, check = await asyncio.to_thread(judged.settle)
    assert (record.status, record.source) == (UsageStatus.CANCELLED, UsageSource.PROVIDER)
    assert record.charged_nanousd > 0
    assert check.status == UsageStatus.CANCELLED


async def test_an_answer_whose_client_will_ask_again_is_judged_and_kept(platform: Platform) -> None:
    judged = make(platform)
    headers = {"idempotency-key": "k1"}
    judged.say(verdict(False, hold_at="head"))
    first = asyncio.create_task(ask(platform.server, judged.caller, stream=True, headers=headers))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
    first.cancel()
    await asyncio.to_thread(wait_for, first.done, what="the client to leave")
    platform.upstream.release()
    await asyncio.to_thread(judged.settle)
    again = await ask(platform.server, judged.caller, stream=True, headers=headers)
    assert (again.text, again.headers["idempotency-replayed"]) == (TEXT, "true")
    assert len(judged.questions()) == 1


async def test_a_resumable_stream_is_kept_from_its_verdict_on(platform: Platform) -> None:
    judged = make(platform)
    answer = await ask(platform.server, judged.caller, stream=True, headers={"x-resumable": "true"})
    assert (answer.headers["x-stream-id"], answer.text) == (answer.headers["x-request-id"], TEXT)
    judged.settle()


def test_a_stream_is_held_up_to_a_bound_and_then_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_streams, "MOST_HELD_BYTES", 100)
    held = held_streams.HeldStream(lambda: OverflowError("too long"))
    chunk = (b"x" * 60, {"choices": [{"index": 0, "delta": {"content": "words"}}]})
    held.add([chunk])
    with pytest.raises(OverflowError):
        held.add([chunk])
    assert (list(held.read_batches()), held.texts.texts()) == ([], [])


@pytest.mark.slow
async def test_a_server_that_drains_has_its_last_answers_judged(own_platform: MakePlatform) -> None:
    platform = own_platform(DRAIN_TIMEOUT_SECONDS="60")
    judged = make(platform)
    judged.say(verdict(False, hold_at="head"))
    platform.upstream.queue(Behaviour(hold_at="finish"), target=judged.caller.model)
    asking = asyncio.create_task(ask(platform.server, judged.caller, stream=True))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
    platform.server.terminate()
    await asyncio.to_thread(wait_for, lambda: platform.server.probe("/readyz") != 200, what="draining")
    await asyncio.to_thread(platform.release)
    await asyncio.to_thread(platform.release)
    answer = await asking
    assert (answer.text, answer.is_whole) == (TEXT, True)
    await asyncio.to_thread(platform.server.process.wait)
    judged.settle()

"""Whatever an Anthropic-speaking upstream does, the client gets a whole answer or an error, and the books agree."""

import asyncio
import json

import pytest

from billing.models import UsageSource, UsageStatus
from tests.flows.platform import Caller, Platform
from tests.flows.test_upstream_faults import SECRET, Fault
from tests.flows.wire import RawCall, ask
from tests.upstream import (
    Behaviour,
    Cut,
    Inject,
    error,
    html_error,
    invalid_body,
    invalid_event,
    message_error_event,
    overloaded,
    rate_limited,
)

COLUMNS = {"dialect": "anthropic", "authentication": "x-api-key", "api_version": "2026-10-21"}


def make_caller(platform: Platform, **upstream: object) -> Caller:
    return platform.make_caller(model=platform.make_model(upstream={**COLUMNS, **upstream}))


def rejected(message: str) -> Behaviour:
    return Behaviour(status=400, error_type="invalid_request_error", error_message=message)


BEFORE_THE_FIRST_BYTE = {
    "overloaded": Fault(
        behaviour=overloaded(message=SECRET), status=503, code="upstream_overloaded", headers={"retry-after": "5"}
    ),
    "limits us": Fault(
        behaviour=rate_limited(retry_after="7"), status=429, code="upstream_rate_limited", headers={"retry-after": "7"}
    ),
    "refuses": Fault(behaviour=rejected(SECRET), status=400, code="upstream_rejected"),
    "has no money of ours": Fault(
        behaviour=Behaviour(status=400, error_type="billing_error", error_message=SECRET),
        status=502,
        code="upstream_misconfigured",
    ),
    "does not know us": Fault(behaviour=error(401, message=SECRET), status=502, code="upstream_misconfigured"),
    "does not know the model": Fault(behaviour=error(404, message=SECRET), status=502, code="upstream_misconfigured"),
    "is too large": Fault(behaviour=error(413, message=SECRET), status=400, code="upstream_rejected"),
    "fails": Fault(behaviour=error(500, message=SECRET), status=502, code="upstream_error"),
    "fails in HTML": Fault(behaviour=html_error(502), status=502, code="upstream_error"),
    "closes after the head": Fault(behaviour=Behaviour(cut_at="first_event"), status=502, code="upstream_interrupted"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", BEFORE_THE_FIRST_BYTE)
async def test_a_fault_before_the_first_byte_is_a_status_and_costs_nothing(
    platform: Platform, name: str, stream: bool
) -> None:
    fault = BEFORE_THE_FIRST_BYTE[name]
    caller = make_caller(platform)
    platform.upstream.queue(fault.behaviour, target=caller.model)
    answer = await ask(platform.server, caller, stream=stream)
    assert (answer.status, answer.error["code"]) == (fault.status, fault.code)
    assert {name: answer.headers.get(name) for name in fault.headers} == fault.headers
    assert SECRET not in answer.raw.decode() + str(answer.headers)
    record = platform.settle_one(caller)
    assert (record.status, record.source, record.charged_nanousd) == (UsageStatus.FAILED, UsageSource.NONE, 0)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (f"messages.0.content: too long for {SECRET}", "messages"),
        ("stop_sequences: each must hold more than whitespace", "stop"),
        ("max_tokens: 300000 > 64000", "max_completion_tokens"),
        (f"{SECRET}: is down", None),
        ("The request is odd", None),
    ],
)
async def test_of_a_refusal_only_the_parameter_is_passed_on_in_openais_words(
    platform: Platform, message: str, param: str | None
) -> None:
    caller = make_caller(platform)
    platform.upstream.queue(rejected(message), target=caller.model)
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert SECRET not in answer.raw.decode()


@pytest.mark.parametrize(
    "behaviour",
    [
        invalid_body(),
        Behaviour(body="[]"),
        Behaviour(body='{"type": "message", "content": "none"}'),
        Behaviour(body='{"type": "message", "content": [7]}'),
        Behaviour(body='{"choices": []}'),
        Behaviour(streams=True),
    ],
    ids=["cut JSON", "no object", "no list", "no block", "another dialect", "a stream"],
)
async def test_a_whole_answer_that_cannot_be_read_is_not_passed_on(platform: Platform, behaviour: Behaviour) -> None:
    caller = make_caller(platform)
    platform.upstream.queue(behaviour, target=caller.model)
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (502, "upstream_invalid_answer")
    assert platform.settle_one(caller).charged_nanousd == 0


# message_start, ping, content_block_start and two words are five events; the fault comes after them.
AFTER_THE_FIRST_BYTE = {
    "closes": Fault(behaviour=Behaviour(cut_at=5), status=200, code="upstream_interrupted"),
    "closes inside an event": Fault(
        behaviour=Behaviour(cut_at=5, cut_inside=True), status=200, code="upstream_interrupted"
    ),
    "ends as if it were whole": Fault(
        behaviour=Behaviour(cut_at=5, cut=Cut.FINISH), status=200, code="upstream_interrupted"
    ),
    "ends without message_stop": Fault(behaviour=Behaviour(done=False), status=200, code="upstream_interrupted"),
    "ends without a stop reason": Fault(
        behaviour=Behaviour(finish_reason=None), status=200, code="upstream_interrupted"
    ),
    "is overloaded": Fault(
        behaviour=message_error_event(after=5, kind="overloaded_error", message=SECRET),
        status=200,
        code="upstream_overloaded",
    ),
    "sends an error": Fault(
        behaviour=message_error_event(after=5, kind="api_error", message=SECRET), status=200, code="upstream_error"
    ),
    "sends what is no JSON": Fault(behaviour=invalid_event(after=5), status=200, code="upstream_invalid_answer"),
    "sends what is no event": Fault(
        behaviour=Behaviour(inject=(Inject(at=5, data='{"type": "content_block_delta", "delta": 7}'),)),
        status=200,
        code="upstream_invalid_answer",
    ),
    "stalls": Fault(behaviour=Behaviour(), status=200, code="upstream_timeout", upstream={"idle_timeout_seconds": 0.1}),
}


@pytest.mark.parametrize("name", AFTER_THE_FIRST_BYTE)
async def test_a_fault_after_the_first_byte_is_the_last_event_and_what_came_is_billed(
    platform: Platform, name: str
) -> None:
    fault = AFTER_THE_FIRST_BYTE[name]
    caller = make_caller(platform, **fault.upstream)
    # Its own count of the input, which comes first, is what is billed of an answer that breaks off.
    usage = {"input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 4}
    fields = {field: getattr(fault.behaviour, field) for field in Behaviour.__dataclass_fields__}
    platform.upstream.queue(Behaviour(**{**fields, "hold_at": 5, "usage": usage}), target=caller.model)
    async with await RawCall.start(platform.server, caller, stream=True) as call:
        # The role and two words.
        await call.read_events(3)
        if name != "stalls":
            await asyncio.to_thread(platform.release)
        raw = (await call.read_answer()).decode()
    assert "[DONE]" not in raw
    assert SECRET not in raw
    *chunks, last = [json.loads(line[6:]) for line in raw.split("\n") if line.startswith("data: ")]
    assert all("error" not in chunk for chunk in chunks)
    assert (last["error"]["code"], last["finish_reason"]) == (fault.code, "error")
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.status, record.source) == (UsageStatus.INTERRUPTED, UsageSource.ESTIMATED)
    assert (record.input_tokens, record.cache_read_tokens) == (2, 5)
    assert record.output_tokens >= 2
    assert record.charged_nanousd == 7 * 1_000 + record.output_tokens * 4_000


async def test_a_client_that_leaves_pays_for_what_was_produced(platform: Platform) -> None:
    caller = make_caller(platform)
    platform.upstream.queue(Behaviour(endless=True, event_delay_seconds=0.01), target=caller.model)
    async with await RawCall.start(platform.server, caller, stream=True) as call:
        await call.read_events(4)
        await call.leave()
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.status, record.source) == (UsageStatus.CANCELLED, UsageSource.ESTIMATED)
    assert record.input_tokens == 3
    assert record.output_tokens >= 3


async def test_an_overloaded_upstream_gives_way_to_the_next(platform: Platform) -> None:
    caller = make_caller(platform)
    platform.add_deployment(caller.model, priority=2)
    platform.upstream.queue(overloaded(), target=caller.model)
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.text) == (200, "amber birch cedar delta ")
    assert platform.settle_one(caller).charged_nanousd == 3 * 1_000 + 4 * 4_000

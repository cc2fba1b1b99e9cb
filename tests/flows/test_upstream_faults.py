"""Whatever an upstream does, the client gets a whole answer or an error that says so, and the books agree."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from billing.models import UsageSource, UsageStatus
from gateway.upstreams.events import MAX_EVENT_BYTES
from tests.flows.platform import Platform
from tests.flows.wire import RawCall, ask
from tests.upstream import (
    Behaviour,
    Cut,
    Inject,
    UsagePlace,
    error,
    error_event,
    html_error,
    huge_event,
    invalid_body,
    invalid_event,
    plain_error,
    rate_limited,
)

# In everything that an upstream writes into its errors: none of it may reach a customer.
SECRET = "internal-host-7.example"
TEXT = "amber birch cedar delta "


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What an upstream does, and what its client is told."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    status: int
    code: str
    upstream: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def rejected(param: object) -> Behaviour:
    return Behaviour(status=400, body=json.dumps({"error": {"message": SECRET, "param": param, "code": "x"}}))


IMPATIENT = {"connect_timeout_seconds": 0.1, "first_token_timeout_seconds": 0.1, "idle_timeout_seconds": 0.1}

# Before the first byte: a status of its own, for whole answers and for streams.
BEFORE_THE_FIRST_BYTE = {
    "refuses connections": Fault(status=503, code="upstream_unreachable", upstream={"base_url": "http://127.0.0.1:9"}),
    "400": Fault(behaviour=error(400, message=SECRET), status=400, code="upstream_rejected"),
    "413": Fault(behaviour=error(413, message=SECRET), status=400, code="upstream_rejected"),
    "422": Fault(behaviour=error(422, message=SECRET), status=400, code="upstream_rejected"),
    "401": Fault(behaviour=error(401, message=SECRET), status=502, code="upstream_misconfigured"),
    "403": Fault(behaviour=error(403, message=SECRET), status=502, code="upstream_misconfigured"),
    "404": Fault(behaviour=error(404, message=SECRET), status=502, code="upstream_misconfigured"),
    "408": Fault(behaviour=error(408, message=SECRET), status=504, code="upstream_timeout"),
    "429 with retry-after": Fault(
        behaviour=rate_limited(retry_after="7"), status=429, code="upstream_rate_limited", headers={"retry-after": "7"}
    ),
    "429 without retry-after": Fault(
        behaviour=rate_limited(), status=429, code="upstream_rate_limited", headers={"retry-after": "5"}
    ),
    "429 with a date": Fault(
        behaviour=rate_limited(retry_after="Sat, 21 Nov 2026 12:00:42 GMT", date="Sat, 21 Nov 2026 12:00:00 GMT"),
        status=429,
        code="upstream_rate_limited",
        headers={"retry-after": "42"},
    ),
    "429 with a date that has passed": Fault(
        behaviour=rate_limited(retry_after="Sat, 21 Nov 2026 12:00:00 GMT", date="Sat, 21 Nov 2026 12:00:00 GMT"),
        status=429,
        code="upstream_rate_limited",
        headers={"retry-after": "5"},
    ),
    "500": Fault(behaviour=error(500, message=SECRET), status=502, code="upstream_error"),
    "502 in HTML": Fault(behaviour=html_error(502), status=502, code="upstream_error"),
    "503": Fault(behaviour=error(503, message=SECRET), status=503, code="upstream_unreachable"),
    "504 in plain text": Fault(behaviour=plain_error(504, text=SECRET), status=504, code="upstream_timeout"),
    "redirects": Fault(
        behaviour=Behaviour(status=307, headers={"location": f"http://{SECRET}/"}), status=502, code="upstream_error"
    ),
    "200 in HTML": Fault(
        behaviour=Behaviour(body=f"<p>{SECRET}</p>", content_type="text/html"),
        status=502,
        code="upstream_invalid_answer",
    ),
    "closes before the head": Fault(behaviour=Behaviour(cut_at="head"), status=503, code="upstream_unreachable"),
    "resets before the head": Fault(
        behaviour=Behaviour(cut_at="head", cut=Cut.RESET), status=502, code="upstream_error"
    ),
    "closes after the head": Fault(behaviour=Behaviour(cut_at="first_event"), status=502, code="upstream_interrupted"),
    "never sends a head": Fault(
        behaviour=Behaviour(hold_at="head"), status=504, code="upstream_timeout", upstream=IMPATIENT
    ),
    "never sends a byte after its head": Fault(
        behaviour=Behaviour(hold_at="first_event"), status=504, code="upstream_timeout", upstream=IMPATIENT
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", BEFORE_THE_FIRST_BYTE)
async def test_a_fault_before_the_first_byte_is_a_status_and_costs_nothing(
    platform: Platform, name: str, stream: bool
) -> None:
    fault = BEFORE_THE_FIRST_BYTE[name]
    caller = platform.make_caller(model=platform.make_model(upstream=fault.upstream))
    platform.upstream.queue(fault.behaviour, target=caller.model)
    answer = await ask(platform.server, caller, stream=stream)
    assert (answer.status, answer.error["code"]) == (fault.status, fault.code)
    assert {name: answer.headers.get(name) for name in fault.headers} == fault.headers
    assert SECRET not in answer.raw.decode() + str(answer.headers)
    record = platform.settle_one(caller)
    assert (record.status, record.source, record.error_code) == (UsageStatus.FAILED, UsageSource.NONE, fault.code)
    assert (record.charged_nanousd, record.finish_reason) == (0, "")


@pytest.mark.parametrize(
    "behaviour",
    [
        invalid_body(),
        Behaviour(body=""),
        Behaviour(body="[]"),
        Behaviour(body='{"choices": "none"}'),
        Behaviour(body='{"choices": [7]}'),
        Behaviour(body='{"id": "x"}'),
        Behaviour(streams=True),
    ],
    ids=["cut JSON", "empty", "no object", "no list", "no choice", "no choices", "a stream"],
)
async def test_a_whole_answer_that_cannot_be_read_is_not_passed_on(platform: Platform, behaviour: Behaviour) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(behaviour, target=caller.model)
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (502, "upstream_invalid_answer")
    assert platform.settle_one(caller).charged_nanousd == 0


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (Behaviour(streams=False), "upstream_invalid_answer"),
        (Behaviour(inject=(Inject(at=0, data="{"),)), "upstream_invalid_answer"),
        (error_event(after=0, message=SECRET), "upstream_error"),
        (error_event(after=0, message=SECRET, code="rate_limit_exceeded"), "upstream_rate_limited"),
        (Behaviour(events=0, finish_reason=None), "upstream_interrupted"),
        (Behaviour(events=0, finish_reason=None, usage_place=UsagePlace.NOWHERE, done=False), "upstream_interrupted"),
        (huge_event(megabytes=MAX_EVENT_BYTES // 1_000_000 + 1), "upstream_invalid_answer"),
    ],
    ids=["no stream", "no JSON", "error", "limit", "only usage", "nothing at all", "an event without bound"],
)
async def test_a_stream_that_fails_before_its_first_chunk_is_a_status(
    platform: Platform, behaviour: Behaviour, code: str
) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(behaviour, target=caller.model)
    answer = await ask(platform.server, caller, stream=True)
    assert not answer.is_stream
    assert (answer.status >= 400, answer.error["code"]) == (True, code)
    assert SECRET not in answer.raw.decode()
    assert platform.settle_one(caller).status == UsageStatus.FAILED


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("temperature", "temperature"),
        ("messages[0].content", "messages[0].content"),
        (None, None),
        ({"deep": SECRET}, None),
        (SECRET, None),
        (f"messages {SECRET}", None),
    ],
)
async def test_of_a_refusal_only_the_parameters_name_is_passed_on(
    platform: Platform, param: object, told: str | None
) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(rejected(param), target=caller.model)
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["param"]) == (400, told)
    assert SECRET not in answer.raw.decode()


# After the first byte: the head is out, so the last event tells. Each fault comes after two chunks were read.
AFTER_THE_FIRST_BYTE = {
    "closes": Fault(behaviour=Behaviour(cut_at=2), status=200, code="upstream_interrupted"),
    "closes inside an event": Fault(
        behaviour=Behaviour(cut_at=2, cut_inside=True), status=200, code="upstream_interrupted"
    ),
    "resets": Fault(behaviour=Behaviour(cut_at=2, cut=Cut.RESET), status=200, code="upstream_interrupted"),
    "ends as if it were whole": Fault(
        behaviour=Behaviour(cut_at=2, cut=Cut.FINISH), status=200, code="upstream_interrupted"
    ),
    "says [DONE] without a finish reason": Fault(
        behaviour=Behaviour(events=2, finish_reason=None, usage_place=UsagePlace.NOWHERE),
        status=200,
        code="upstream_interrupted",
    ),
    "sends what is no JSON": Fault(behaviour=invalid_event(after=2), status=200, code="upstream_invalid_answer"),
    "sends what is no chunk": Fault(
        behaviour=Behaviour(inject=(Inject(at=2, data='{"choices": [7]}'),)),
        status=200,
        code="upstream_invalid_answer",
    ),
    "sends choices that are no list": Fault(
        behaviour=Behaviour(inject=(Inject(at=2, data='{"choices": null}'),)),
        status=200,
        code="upstream_invalid_answer",
    ),
    "sends an error": Fault(behaviour=error_event(after=2, message=SECRET), status=200, code="upstream_error"),
    "stalls": Fault(behaviour=Behaviour(), status=200, code="upstream_timeout", upstream={"idle_timeout_seconds": 0.1}),
    "takes too long": Fault(
        behaviour=Behaviour(endless=True, event_delay_seconds=0.05),
        status=200,
        code="upstream_timeout",
        upstream={"total_timeout_seconds": 0.4},
    ),
}


@pytest.mark.parametrize("name", AFTER_THE_FIRST_BYTE)
async def test_a_fault_after_the_first_byte_is_the_last_event_and_what_came_is_billed(
    platform: Platform, name: str
) -> None:
    fault = AFTER_THE_FIRST_BYTE[name]
    caller = platform.make_caller(model=platform.make_model(upstream=fault.upstream))
    # Held, so that the chunks before it have arrived when the fault comes; the one that stalls stays held.
    fields = {name: getattr(fault.behaviour, name) for name in Behaviour.__dataclass_fields__}
    platform.upstream.queue(Behaviour(**{**fields, "hold_at": 2}), target=caller.model)
    async with await RawCall.start(platform.server, caller, stream=True) as call:
        await call.read_events(2)
        if name != "stalls":
            await asyncio.to_thread(platform.release)
        raw = (await call.read_answer()).decode()
        assert "[DONE]" not in raw
        assert SECRET not in raw
        *chunks, last = [json.loads(line[6:]) for line in raw.split("\n") if line.startswith("data: ")]
        assert len(chunks) >= 2
        assert all("error" not in chunk for chunk in chunks)
        assert (last["error"]["code"], last["finish_reason"]) == (fault.code, "error")
        record = await asyncio.to_thread(platform.settle_one, caller)
        assert last["error"]["request_id"] == last["tollkeeper"]["request_id"] == record.request_id
        assert last["tollkeeper"]["usage"]["output_tokens"] == record.output_tokens > 0
        assert (record.status, record.source) == (UsageStatus.INTERRUPTED, UsageSource.ESTIMATED)
        assert record.error_code == fault.code
        assert record.charged_nanousd == 10 * 1_000 + record.output_tokens * 4_000


async def test_of_an_interrupted_stream_the_providers_own_figures_count_where_it_gave_any(platform: Platform) -> None:
    caller = platform.make_caller()
    behaviour = Behaviour(cut_at=3, hold_at=3, usage_place=UsagePlace.EVERY_EVENT)
    platform.upstream.queue(behaviour, target=caller.model)
    async with await RawCall.start(platform.server, caller, stream=True) as call:
        await call.read_events(3)
        await asyncio.to_thread(platform.release)
        await call.read_answer()
        record = await asyncio.to_thread(platform.settle_one, caller)
        assert (record.status, record.source) == (UsageStatus.INTERRUPTED, UsageSource.PROVIDER)
        assert (record.input_tokens, record.output_tokens) == (3, 3)


async def test_a_stream_without_end_is_ended_and_never_charged_beyond_its_hold(platform: Platform) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(endless=True, tokens_per_event=50), target=caller.model)
    answer = await ask(platform.server, caller, stream=True, max_completion_tokens=20)
    assert (answer.error["code"], answer.is_whole) == ("upstream_invalid_answer", False)
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    record = platform.settle_one(caller)
    assert record.charged_nanousd == 10 * 1_000 + 20 * 4_000
    assert "cost_exceeds_hold" in record.flags.split(",")


async def test_a_whole_answer_far_longer_than_asked_for_is_not_passed_on(platform: Platform) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(text="amber " * 200_000), target=caller.model)
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (502, "upstream_invalid_answer")
    assert platform.settle_one(caller).charged_nanousd <= 10 * 1_000 + 256 * 4_000


# ---- what is unusual and not wrong


MULTI_LINE = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "lines "}, "finish_reason": None}],
    },
    indent=1,
)


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        (Behaviour(line_ending="\r\n"), TEXT),
        (Behaviour(line_ending="\r"), TEXT),
        (Behaviour(line_ending="\r\n", write_bytes=1), TEXT),
        (Behaviour(data_prefix="data:"), TEXT),
        (Behaviour(comments=True), TEXT),
        (Behaviour(role_event=True), TEXT),
        (Behaviour(done=False), TEXT),
        (Behaviour(events_per_write=100), TEXT),
        (Behaviour(text="Grüße, 世界 😀", events=3, write_bytes=1), "Grüße, 世界 😀"),
        (Behaviour(text="x" * 1_000_000, events=1), "x" * 1_000_000),
        (Behaviour(events=0), ""),
        (Behaviour(inject=(Inject(at=0, data=MULTI_LINE),)), f"lines {TEXT}"),
        (Behaviour(inject=(Inject(at=1, data=MULTI_LINE.replace("lines ", ""), name="message"),)), TEXT),
    ],
    ids=[
        "CRLF",
        "CR",
        "CRLF byte by byte",
        "no space",
        "comments",
        "a role first",
        "no [DONE]",
        "one write",
        "split characters",
        "a long event",
        "no text",
        "data of several lines",
        "a named event",
    ],
)
async def test_an_unusual_stream_arrives_whole(platform: Platform, behaviour: Behaviour, text: str) -> None:
    caller = platform.make_caller(model=platform.make_model(max_output_tokens=4_000, default_output_tokens=4_000))
    platform.upstream.queue(behaviour, target=caller.model)
    answer = await ask(platform.server, caller, stream=True)
    assert (answer.status, answer.is_whole) == (200, True)
    assert answer.text == text
    record = platform.settle_one(caller)
    assert (record.status, record.source, record.finish_reason) == (
        UsageStatus.COMPLETED,
        UsageSource.PROVIDER,
        "stop",
    )


async def test_an_upstream_that_was_restarted_is_reached_by_the_next_call(platform: Platform) -> None:
    caller = platform.make_caller()
    assert (await ask(platform.server, caller)).status == 200
    platform.upstream.stop()
    down = await ask(platform.server, caller)
    assert (down.status, down.error["code"]) == (503, "upstream_unreachable")
    platform.upstream.start()
    assert (await ask(platform.server, caller)).status == 200
    platform.assert_settled(caller)

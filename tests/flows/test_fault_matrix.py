"""Every fault of an upstream on every way to call: what the client is told, what is booked, and whether the breaker
moved.

The finer shapes of each fault are in `test_upstream_faults`; here the same fault must mean the same everywhere.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from billing.models import UsageRecord, UsageSource, UsageStatus
from gateway.models import Breaker, CallAttempt
from gateway.upstreams.events import MAX_EVENT_BYTES
from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.flows.test_prompt_runs import make, read_events, run
from tests.flows.wire import ask
from tests.upstream import Behaviour, UsagePlace, error, huge_event, invalid_body, invalid_event, rate_limited

TEXT = "amber birch cedar delta "
# 10 tokens of "three plain words" are held for, and 256 of output.
WAYS = ("json", "sse", "websocket", "run", "run stream")
STREAMS = {"sse", "websocket", "run stream"}
IMPATIENT = {"connect_timeout_seconds": 0.2, "first_token_timeout_seconds": 0.2, "idle_timeout_seconds": 0.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a client has in the end."""

    # Of the error; empty: the answer is whole.
    code: str = ""
    # The HTTP status; of the socket and of streams that have begun there is none.
    status: int | None = None
    # A part of the answer came before the error.
    has_begun: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fault, and what it means for a whole answer and for a stream."""

    whole: Behaviour = field(default_factory=Behaviour)
    stream: Behaviour | None = None
    code: str
    status: int
    # It comes after the first byte of a stream.
    is_late: bool = False
    upstream: dict[str, Any] = field(default_factory=dict)
    is_tls: bool = False
    opens: bool = False


# Between the events of a stream that breaks off: what came before has been read by then.
_PACE = 0.5
CASES = {
    "connect refused": Case(code="upstream_unreachable", status=503, upstream={"base_url": "http://127.0.0.1:9"}),
    "TLS error": Case(code="upstream_unreachable", status=503, is_tls=True),
    "429 with retry-after": Case(
        whole=rate_limited(retry_after="60"), code="upstream_rate_limited", status=429, opens=True
    ),
    "429 without": Case(whole=rate_limited(), code="upstream_rate_limited", status=429),
    "500": Case(whole=error(500), code="upstream_error", status=502),
    "503": Case(whole=error(503), code="upstream_unreachable", status=503),
    "slow first byte": Case(
        whole=Behaviour(hold_at="first_event"), code="upstream_timeout", status=504, upstream=IMPATIENT
    ),
    "stall mid-stream": Case(
        whole=Behaviour(hold_at="first_event"),
        stream=Behaviour(hold_at=2),
        code="upstream_timeout",
        status=504,
        is_late=True,
        upstream=IMPATIENT,
    ),
    "cut mid-event": Case(
        whole=Behaviour(cut_at="first_event", cut_inside=True),
        stream=Behaviour(cut_at=2, cut_inside=True, event_delay_seconds=_PACE),
        code="upstream_interrupted",
        status=502,
        is_late=True,
    ),
    "malformed JSON": Case(
        whole=invalid_body(), stream=invalid_event(after=2), code="upstream_invalid_answer", status=502, is_late=True
    ),
    "wrong content type": Case(
        whole=Behaviour(body="<p>", content_type="text/html"), code="upstream_invalid_answer", status=502
    ),
    "endless stream": Case(
        whole=Behaviour(text="amber " * 200_000),
        stream=Behaviour(endless=True, tokens_per_event=50),
        code="upstream_invalid_answer",
        status=502,
        is_late=True,
    ),
    "huge chunk": Case(
        whole=huge_event(megabytes=MAX_EVENT_BYTES // 1_000_000 + 1), code="upstream_invalid_answer", status=502
    ),
}


async def call(platform: Platform, caller: Caller, way: str) -> View:
    """Make the call on one of the ways, and return what its client has in the end."""
    if way == "websocket":
        async with open_socket(platform.server, caller) as socket:
            await socket.call(caller)
            *before, last = await socket.finish()
            code = last["error"]["code"] if last["type"] == "error" else ""
            return View(code=code, has_begun=any(message["type"] == "delta" for message in before))
    if way in {"run", "run stream"}:
        answer = await run(platform, caller, make(platform, caller), stream=way == "run stream")
    else:
        answer = await ask(platform.server, caller, stream=way == "sse")
    if not answer.is_stream:
        return View(code=answer.body.get("error", {}).get("code", ""), status=answer.status)
    if way == "sse":
        assert answer.is_whole is ("error" not in answer.events[-1])
        failure = answer.events[-1].get("error")
        return View(code=failure["code"] if failure else "", has_begun="choices" in answer.events[0])
    events = read_events(answer)
    failure = events[-1][1].get("error")
    return View(code=failure["code"] if failure else "", has_begun=any(name == "delta" for name, _ in events))


def read_rows(platform: Platform, caller: Caller) -> tuple[UsageRecord, list[str], Breaker | None]:
    record = platform.settle_one(caller)

    def read() -> tuple[list[str], Breaker | None]:
        attempts = CallAttempt.objects.filter(request_id=record.request_id).order_by("number")
        breaker = Breaker.objects.filter(deployment__upstream_model=caller.model).first()
        return [attempt.outcome for attempt in attempts], breaker

    return record, *platform.run(read)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
async def test_a_fault_means_the_same_on_every_way(platform: Platform, name: str, way: str) -> None:
    case, is_stream = CASES[name], way in STREAMS
    upstream = dict(case.upstream)
    if case.is_tls:
        upstream["base_url"] = platform.upstream.base_url.replace("http://", "https://")
    caller = platform.make_caller(model=platform.make_model(upstream=upstream))
    platform.upstream.queue((case.stream if is_stream else None) or case.whole, target=caller.model)
    view = await call(platform, caller, way)
    # A stream that has begun says so with its last event; whatever has not is a status.
    begins = case.is_late and is_stream
    status = None if begins or way == "websocket" else case.status
    assert view == View(code=case.code, status=status, has_begun=begins)
    record, attempts, breaker = await asyncio.to_thread(read_rows, platform, caller)
    assert (record.error_code, attempts) == (case.code, [case.code])
    assert record.status == (UsageStatus.INTERRUPTED if begins else UsageStatus.FAILED)
    if begins:
        assert (record.source, record.charged_nanousd > 0) == (UsageSource.ESTIMATED, True)
    elif record.output_tokens == 0:
        assert (record.source, record.charged_nanousd) == (UsageSource.NONE, 0)
    # Never more than was held, whatever came.
    assert record.charged_nanousd <= 100 * 1_000 + 256 * 4_000
    # One fault opens nothing, but for a provider that says for how long it will take no calls.
    state = None if breaker is None else (breaker.is_open, breaker.reason)
    assert state == ((True, "rate_limited") if case.opens else None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("usage", ["missing", "too large"])
async def test_an_answer_with_odd_usage_is_whole_and_billed_within_its_hold(
    platform: Platform, way: str, usage: str
) -> None:
    caller = platform.make_caller()
    lie = {"prompt_tokens": 10, "completion_tokens": 5_000, "total_tokens": 5_010}
    behaviour = Behaviour(usage_place=UsagePlace.NOWHERE) if usage == "missing" else Behaviour(usage=lie)
    platform.upstream.queue(behaviour, target=caller.model)
    view = await call(platform, caller, way)
    status = None if way in STREAMS else 200
    assert view == View(status=status, has_begun=way in STREAMS)
    record, attempts, breaker = await asyncio.to_thread(read_rows, platform, caller)
    assert (record.status, attempts, breaker) == (UsageStatus.COMPLETED, [], None)
    if usage == "missing":
        assert record.source == UsageSource.ESTIMATED
        assert record.charged_nanousd <= 100 * 1_000 + record.output_tokens * 4_000
    else:
        assert (record.source, record.output_tokens) == (UsageSource.PROVIDER, 5_000)
        assert "cost_exceeds_hold" in record.flags.split(",")
        assert record.charged_nanousd <= 100 * 1_000 + 256 * 4_000


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.upstream and not case.is_tls])
async def test_with_another_deployment_a_fault_before_the_first_byte_is_none(
    platform: Platform, name: str, way: str
) -> None:
    case, is_stream = CASES[name], way in STREAMS
    model = platform.make_model()
    platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.queue((case.stream if is_stream else None) or case.whole, target=model)
    view = await call(platform, caller, way)
    record, attempts, _ = await asyncio.to_thread(read_rows, platform, caller)
    if case.is_late and is_stream:
        assert (view.code, view.has_begun, attempts) == (case.code, True, [case.code])
        return
    assert (view.code, record.upstream_model) == ("", f"{model}-2")
    assert attempts[0] == case.code
    assert len(attempts) == 2
    # One bill, for the answer alone.
    assert record.charged_nanousd == record.input_tokens * 1_000 + record.output_tokens * 4_000
    assert record.output_tokens == 4

"""A call moves on to the next deployment only while its client has seen nothing."""

import asyncio

import pytest

from billing.models import UsageStatus
from tests.flows.platform import Platform
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour, Outcome, error, html_error, rate_limited

TEXT = "amber birch cedar delta "
IMPATIENT = {"connect_timeout_seconds": 0.1, "first_token_timeout_seconds": 0.1}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "behaviour",
    [
        error(500),
        error(503),
        rate_limited(retry_after="60"),
        error(401),
        html_error(502),
        Behaviour(cut_at="head"),
        Behaviour(cut_at="first_event"),
        Behaviour(hold_at="head"),
    ],
    ids=["500", "503", "429", "401", "HTML", "closed", "closed after the head", "no answer"],
)
async def test_before_the_first_byte_the_next_deployment_answers(
    platform: Platform, behaviour: Behaviour, stream: bool
) -> None:
    model = platform.make_model(upstream=IMPATIENT)
    second = platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.queue(behaviour, target=model)
    answer = await ask(platform.server, caller, stream=stream)
    assert (answer.status, answer.text, answer.headers["x-upstream"]) == (200, TEXT, second)
    record = platform.settle_one(caller)
    assert (record.status, record.upstream, record.upstream_model) == (UsageStatus.COMPLETED, second, f"{model}-2")
    assert record.charged_nanousd == 19_000
    assert len(platform.requests_for(model)) == 2


async def test_a_call_that_was_refused_for_its_content_is_not_offered_to_the_next_deployment(
    platform: Platform,
) -> None:
    model = platform.make_model()
    platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.queue(error(400), target=model)
    assert (await ask(platform.server, caller)).error["code"] == "upstream_rejected"
    assert len(platform.requests_for(model)) == 1


async def test_after_the_first_byte_no_other_deployment_takes_over(platform: Platform) -> None:
    model = platform.make_model()
    platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.queue(Behaviour(hold_at=2, cut_at=2), target=model)
    async with await RawCall.start(platform.server, caller, stream=True) as call:
        await call.read_events(2)
        await asyncio.to_thread(platform.release)
        assert b'"upstream_interrupted"' in await call.read_answer()
        (seen,) = platform.requests_for(model)
        assert seen.outcome is Outcome.CUT
        assert (await asyncio.to_thread(platform.settle_one, caller)).status == UsageStatus.INTERRUPTED


async def test_when_every_deployment_fails_the_last_fault_is_told_and_nothing_is_charged(platform: Platform) -> None:
    model = platform.make_model()
    last = platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.queue(error(500), target=model)
    platform.upstream.queue(rate_limited(), target=f"{model}-2")
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (429, "upstream_rate_limited")
    record = platform.settle_one(caller)
    assert (record.upstream, record.charged_nanousd) == (last, 0)

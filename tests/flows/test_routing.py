"""Where a call goes: by weight, by what it asks for, around what rests; each attempt on record, one bill."""

import asyncio
from typing import Any

import aiohttp
import pytest

from billing.models import UsageStatus
from gateway.breaker_rows import reset_breaker
from gateway.models import Breaker, CallAttempt, Deployment
from keys.audit import SYSTEM
from tests.flows.platform import Caller, Platform, Server, wait_for
from tests.flows.wire import ask
from tests.upstream import Behaviour, Cut, error, rate_limited

TEXT = "amber birch cedar delta "
MESSAGES = [{"role": "user", "content": "three plain words"}]


def read_attempts(platform: Platform, caller: Caller) -> list[tuple[str, str, bool]]:
    rows = platform.run(lambda: list(CallAttempt.objects.filter(customer_id=caller.customer_id).order_by("id")))
    return [(row.upstream_model, row.outcome, row.is_billed) for row in rows]


def read_breaker(platform: Platform, model: str) -> Breaker | None:
    return platform.run(lambda: Breaker.objects.filter(deployment__upstream_model=model).first())


def change(platform: Platform, upstream_model: str, **columns: Any) -> None:
    platform.run(lambda: Deployment.objects.filter(upstream_model=upstream_model).update(**columns))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_passing_fault_is_tried_again_billed_once_and_told(platform: Platform, stream: bool) -> None:
    caller = platform.make_caller(model=platform.make_model(retries=2))
    platform.upstream.queue(error(500), error(503), target=caller.model)
    answer = await ask(
        platform.server, caller, stream=stream, **({"stream_options": {"include_usage": True}} if stream else {})
    )
    assert (answer.status, answer.text) == (200, TEXT)
    told = (answer.events[-1] if stream else answer.body)["tollkeeper"]["attempts"]
    assert [one["outcome"] for one in told] == ["upstream_error", "upstream_unreachable", "answered"]
    assert [one["cost_usd"] for one in told] == ["0.00", "0.00", "0.000019"]
    record = platform.settle_one(caller)
    assert (record.status, record.charged_nanousd) == (UsageStatus.COMPLETED, 19_000)
    name = caller.model
    expected = [(name, "upstream_error", False), (name, "upstream_unreachable", False), (name, "answered", True)]
    assert read_attempts(platform, caller) == expected


async def test_of_a_failed_attempt_nothing_reaches_answer_or_bill_but_its_cost_is_kept(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(retries=1))
    usage = {"prompt_tokens": 500, "completion_tokens": 100, "total_tokens": 600}
    # It counts, says so, and breaks off without a word.
    broken = Behaviour(events=0, finish_reason=None, usage=usage, done=False, cut_at="end", cut=Cut.FINISH)
    platform.upstream.queue(broken, target=caller.model)
    answer = await ask(platform.server, caller, stream=True)
    assert (answer.text, answer.is_whole) == (TEXT, True)
    record = platform.settle_one(caller)
    assert (record.input_tokens, record.output_tokens, record.charged_nanousd) == (3, 4, 19_000)
    rows = platform.run(lambda: list(CallAttempt.objects.filter(customer_id=caller.customer_id).order_by("number")))
    assert [(row.input_tokens, row.output_tokens, row.is_billed) for row in rows] == [(500, 100, False), (3, 4, True)]


async def test_a_limit_is_waited_for_where_it_is_short_and_told_where_it_is_long(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(retries=1, retry_wait_seconds=3))
    platform.upstream.queue(rate_limited(retry_after="1"), target=caller.model)
    assert (await ask(platform.server, caller)).text == TEXT
    platform.upstream.queue(rate_limited(retry_after="60"), target=caller.model)
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (429, "upstream_rate_limited", "60")
    # It asked for a minute: until then it is not called at all.
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (503, "deployments_resting")
    assert 50 < int(answer.headers["retry-after"]) <= 60
    assert len(platform.requests_for(caller.model)) == 3
    found = read_breaker(platform, caller.model)
    assert found is not None
    assert (found.is_open, found.reason, found.error_code) == (True, "rate_limited", "upstream_rate_limited")


async def test_what_keeps_failing_rests_until_somebody_resets_it(platform: Platform) -> None:
    model = platform.make_model()
    second = platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.set_default(error(500), target=model)
    for _ in range(6):
        assert (await ask(platform.server, caller)).headers["x-upstream"] == second
    assert len([r for r in platform.requests_for(model) if (r.body or {})["model"] == model]) == 5
    found = wait_for(lambda: read_breaker(platform, model), what="the breaker's row")
    assert found is not None
    assert (found.is_open, found.reason, found.trips) == (True, "failures", 1)
    platform.upstream.set_default(Behaviour(), target=model)
    pk = found.pk
    await asyncio.to_thread(
        platform.run, lambda: reset_breaker(deployment_id=pk, actor=SYSTEM, reason="the provider is back")
    )
    # The clerk learns of it with the batch of the first call, whose plan is made by then.
    await ask(platform.server, caller)
    assert (await ask(platform.server, caller)).headers["x-upstream"] != second


async def test_a_breaker_that_opened_in_one_process_is_open_in_the_other(own_platform: Any) -> None:
    platform: Platform = own_platform(servers=2, BREAKER_FAILURES="1", BREAKER_REST_SECONDS="60")
    one, other = platform.servers
    model = platform.make_model()
    second = platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    await ask(other, caller)
    platform.upstream.queue(error(500), target=model)
    assert (await ask(one, caller)).headers["x-upstream"] == second
    wait_for(lambda: read_breaker(platform, model), what="the breaker's row")
    await ask(other, caller)
    assert (await ask(other, caller)).headers["x-upstream"] == second


def end_rest(platform: Platform, model: str, **columns: int) -> None:
    """Let the rest of a deployment be over, as far as the processes know."""
    row = read_breaker(platform, model)
    assert row is not None
    platform.run(lambda: Breaker.objects.filter(pk=row.pk).update(until_us=1, changed_us=row.changed_us + 1, **columns))


async def test_one_call_of_all_processes_tries_what_has_rested_and_a_killed_one_is_followed_by_another(
    own_platform: Any,
) -> None:
    platform: Platform = own_platform(servers=2, BREAKER_FAILURES="1", BREAKER_REST_SECONDS="60")
    one, other = platform.servers
    model = platform.make_model()
    second = platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.queue(error(500), target=model)
    assert (await ask(one, caller)).headers["x-upstream"] == second
    wait_for(lambda: read_breaker(platform, model), what="the breaker's row")
    await asyncio.to_thread(end_rest, platform, model)
    tries_before = count_tries(platform, model)
    platform.upstream.queue(Behaviour(hold_at="head"), target=model)
    trial = asyncio.create_task(ask_for_ever(one, caller))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
    for _ in range(3):
        assert (await ask(other, caller)).headers["x-upstream"] == second
        assert (await ask(one, caller)).headers["x-upstream"] == second
    assert count_tries(platform, model) == tries_before + 1
    one.kill()
    platform.upstream.release()
    with pytest.raises(aiohttp.ClientError):
        await trial
    assert (await ask(other, caller)).headers["x-upstream"] == second
    assert count_tries(platform, model) == tries_before + 1
    # A minute later.
    await asyncio.to_thread(end_rest, platform, model, trial_until_us=1)
    await ask(other, caller)
    assert (await ask(other, caller)).headers["x-upstream"] != second
    wait_for(lambda: read_state(platform, model) == ("recovered", 0), what="its recovery")


def read_state(platform: Platform, model: str) -> tuple[str, int]:
    row = read_breaker(platform, model)
    assert row is not None
    return row.reason, row.trial_until_us


def count_tries(platform: Platform, model: str) -> int:
    """Return how often the first deployment of a model was called."""
    return sum((request.body or {})["model"] == model for request in platform.requests_for(model))


async def ask_for_ever(server: Server, caller: Caller) -> None:
    """Call until a call does not come back: the first may be planned before its server knows that the rest is over."""
    while True:
        await ask(server, caller)


async def test_weights_share_the_calls_and_weight_0_waits_for_the_others_to_fail(platform: Platform) -> None:
    model = platform.make_model()
    spare = platform.add_deployment(model, priority=1)
    change(platform, f"{model}-1", weight=0)
    caller = platform.make_caller(model=model)
    for _ in range(6):
        assert (await ask(platform.server, caller)).headers["x-upstream"] != spare
    platform.upstream.queue(error(500), target=model)
    assert (await ask(platform.server, caller)).headers["x-upstream"] == spare


async def test_the_cheapest_first_where_the_model_or_the_call_says_so(platform: Platform) -> None:
    model = platform.make_model(routing="cost")
    cheap = platform.add_deployment(model, priority=1)
    change(platform, model, input_cost_nanousd=5 * 10**9, output_cost_nanousd=10 * 10**9)
    change(platform, f"{model}-1", input_cost_nanousd=10**9, output_cost_nanousd=2 * 10**9)
    caller = platform.make_caller(model=model)
    for _ in range(4):
        assert (await ask(platform.server, caller)).headers["x-upstream"] == cheap
    dear = platform.add_deployment(model, priority=3)
    change(platform, f"{model}-3", input_cost_nanousd=0, output_cost_nanousd=0)
    assert (await ask(platform.server, caller)).headers["x-upstream"] == cheap
    assert (await ask(platform.server, caller, provider={"sort": "price"})).headers["x-upstream"] == dear


async def test_a_call_narrows_where_it_goes_and_the_provider_hears_nothing_of_it(platform: Platform) -> None:
    model = platform.make_model()
    second = platform.add_deployment(model, priority=2)
    change(platform, f"{model}-2", region="eu")
    caller = platform.make_caller(model=model)
    for provider in ({"only": [second]}, {"order": [second]}, {"regions": ["eu"]}):
        assert (await ask(platform.server, caller, provider=provider)).headers["x-upstream"] == second
    assert all(not {"provider", "models"} & set(r.body or {}) for r in platform.requests_for(model))
    answer = await ask(platform.server, caller, provider={"regions": ["mars"]})
    assert (answer.status, answer.error["code"]) == (400, "provider_unavailable")
    answer = await ask(platform.server, caller, provider={"onyl": ["x"]})
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_body", "provider.onyl")
    platform.upstream.queue(error(500), target=model)
    answer = await ask(platform.server, caller, provider={"allow_fallbacks": False})
    assert (answer.status, answer.error["code"]) == (502, "upstream_error")


async def test_further_models_take_over_at_their_own_price_within_one_hold(platform: Platform) -> None:
    first, dear = platform.make_model(), platform.make_model(input_usd="10", output_usd="40")
    caller = platform.make_caller(model=first)
    platform.upstream.queue(error(500), target=first)
    answer = await ask(platform.server, caller, models=[dear])
    assert (answer.status, answer.headers["x-model"]) == (200, dear)
    record = platform.settle_one(caller)
    assert (record.model, record.charged_nanousd, record.flags) == (dear, 190_000, "")
    narrow = platform.make_caller(model=first, allowed_models=[first])
    answer = await ask(platform.server, narrow, models=[dear])
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_further_models_are_held_for_at_the_dearest(platform: Platform) -> None:
    first, dear = platform.make_model(), platform.make_model(input_usd="10", output_usd="40")
    # Enough for 256 tokens of the first, not of the second.
    caller = platform.make_caller(model=first, credit_nanousd=2_000_000)
    assert (await ask(platform.server, caller)).status == 200
    answer = await ask(platform.server, caller, models=[dear])
    assert (answer.status, answer.error["code"]) == (402, "insufficient_balance")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_quiet_deployment_is_outrun_by_the_next_and_only_the_answer_is_billed(
    platform: Platform, stream: bool
) -> None:
    model = platform.make_model(hedge_after_ms=50)
    second = platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.queue(Behaviour(hold_at="first_event"), target=model)
    answer = await ask(platform.server, caller, stream=stream)
    assert (answer.status, answer.text, answer.headers["x-upstream"]) == (200, TEXT, second)
    # It is hung up on.
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    assert platform.settle_one(caller).charged_nanousd == 19_000
    expected = [(model, "outrun", False), (f"{model}-2", "answered", True)]
    assert read_attempts(platform, caller) == expected
    answer = await ask(platform.server, caller, stream=stream)
    assert (answer.text, answer.headers["x-upstream"] != second) == (TEXT, True)


async def test_of_two_that_were_asked_the_one_that_fails_is_not_waited_for(platform: Platform) -> None:
    model = platform.make_model(hedge_after_ms=50)
    second = platform.add_deployment(model, priority=2)
    caller = platform.make_caller(model=model)
    platform.upstream.queue(Behaviour(status=500, head_delay_seconds=0.2), target=model)
    platform.upstream.queue(Behaviour(head_delay_seconds=0.6), target=f"{model}-2")
    answer = await ask(platform.server, caller)
    assert (answer.text, answer.headers["x-upstream"]) == (TEXT, second)
    expected = [(model, "upstream_error", False), (f"{model}-2", "answered", True)]
    assert read_attempts(platform, caller) == expected

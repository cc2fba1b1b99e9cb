"""Nobody spends what they do not have, whatever arrives at once, and every charge is exact to the nano-dollar."""

import pytest

from billing.models import UsageSource, UsageStatus
from billing.pricing import publish_price
from tests.flows.flood import LIMITS, check_flood
from tests.flows.platform import Caller, Platform
from tests.flows.wire import ask
from tests.upstream import Behaviour, UsagePlace, error, make_usage


@pytest.mark.parametrize("name", LIMITS)
async def test_of_200_clients_at_once_exactly_those_with_a_place_pass(platform: Platform, name: str) -> None:
    await check_flood(platform, LIMITS[name])


async def test_money_for_ten_dearest_calls_ends_after_ten(platform: Platform) -> None:
    hold_nanousd = 10 * 1_000 + 20 * 4_000
    caller = platform.make_caller(credit_nanousd=10 * hold_nanousd)
    dearest = make_usage(prompt_tokens=10, completion_tokens=20)
    platform.upstream.set_default(Behaviour(usage=dearest), target=caller.model)
    statuses = [(await ask(platform.server, caller, max_completion_tokens=20)).status for _ in range(12)]
    assert statuses == [200] * 10 + [402] * 2
    assert platform.read_balance(caller).posted_nanousd == 0
    platform.assert_settled(caller)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_cost_is_price_times_usage_rounded_once(platform: Platform, stream: bool) -> None:
    model = platform.make_model(with_price=False)
    # 0.0351 and 0.0701 nano-USD a token: nothing divides evenly.
    rates = {"input_nanousd": 35_100, "output_nanousd": 70_100, "cache_read_nanousd": 12_345, "request_nanousd": 7}
    platform.run(lambda: publish_price(model=model, rates=rates, author="tests"))
    caller = platform.make_caller(model=model, credit_nanousd=1_000)
    usage = make_usage(prompt_tokens=17, completion_tokens=13, cached_tokens=5, reasoning_tokens=3)
    platform.upstream.set_default(Behaviour(usage=usage), target=model)
    answer = await ask(platform.server, caller, stream=stream, max_completion_tokens=40)
    assert answer.status == 200
    record = platform.settle_one(caller)
    # 12 * 0.0351 + 5 * 0.012345 + 13 * 0.0701 = 1.394..., and 7 for the request.
    assert (record.cost_nanousd, record.charged_nanousd) == (8, 8)
    assert (record.input_tokens, record.cache_read_tokens) == (12, 5)
    assert (record.output_tokens, record.reasoning_tokens) == (10, 3)
    assert (record.status, record.source, record.flags) == (UsageStatus.COMPLETED, UsageSource.PROVIDER, "")
    assert platform.read_balance(caller).available_nanousd == 992


async def test_a_failed_call_costs_nothing_and_releases_its_hold(platform: Platform) -> None:
    caller = platform.make_caller(credit_nanousd=1_034_000)
    platform.upstream.queue(error(500), target=caller.model)
    refused = await ask(platform.server, caller)
    assert (refused.status, refused.error["code"]) == (502, "upstream_error")
    record = platform.settle_one(caller)
    assert (record.status, record.source, record.charged_nanousd) == (UsageStatus.FAILED, UsageSource.NONE, 0)
    assert platform.read_balance(caller).available_nanousd == 1_034_000
    assert (await ask(platform.server, caller)).status == 200


async def test_a_free_model_needs_no_money_and_leaves_a_usage_record(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(input_usd="0", output_usd="0"), credit_usd="0")
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.body["tollkeeper"]["cost_usd"]) == (200, "0.00")
    record = platform.settle_one(caller)
    assert (record.input_tokens, record.output_tokens, record.charged_nanousd) == (3, 4, 0)


async def test_a_priced_model_needs_money(platform: Platform) -> None:
    caller = platform.make_caller(credit_usd="0")
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (402, "insufficient_balance")
    assert platform.requests_for(caller.model) == []
    assert platform.read_usage(caller) == []


async def test_a_model_without_a_price_is_not_served(platform: Platform) -> None:
    caller = platform.make_caller(model=platform.make_model(with_price=False))
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (402, "price_missing", "model")
    assert platform.requests_for(caller.model) == []


async def test_a_price_counts_from_the_next_call_on(platform: Platform) -> None:
    caller = platform.make_caller()
    await ask(platform.server, caller)
    platform.run(
        lambda: publish_price(
            model=caller.model, rates={"input_nanousd": 2 * 10**9, "output_nanousd": 8 * 10**9}, author="tests"
        )
    )
    await ask(platform.server, caller)
    before, after = platform.wait_for_usage(caller, 2)
    assert (before.charged_nanousd, after.charged_nanousd) == (3 * 1_000 + 4 * 4_000, 3 * 2_000 + 4 * 8_000)
    platform.assert_settled(caller)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_reports_too_much_is_charged_up_to_the_hold_and_flagged(
    platform: Platform, stream: bool
) -> None:
    caller = platform.make_caller()
    lie = make_usage(prompt_tokens=1_000_000, completion_tokens=900_000)
    platform.upstream.queue(Behaviour(usage=lie), target=caller.model)
    answer = await ask(platform.server, caller, stream=stream, max_completion_tokens=20)
    assert answer.status == 200
    record = platform.settle_one(caller)
    assert record.charged_nanousd == 10 * 1_000 + 20 * 4_000
    assert record.cost_nanousd == 1_000_000 * 1_000 + 900_000 * 4_000
    assert "cost_exceeds_hold" in record.flags.split(",")


@pytest.mark.parametrize(
    ("usage", "flag"),
    [
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "total_tokens": 7,
                "completion_tokens_details": {"reasoning_tokens": 90},
            },
            "usage_parts_exceed_total",
        ),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9}, "usage_total_mismatch"),
    ],
)
async def test_contradictory_usage_is_flagged(platform: Platform, usage: dict[str, object], flag: str) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(usage=usage), target=caller.model)
    assert (await ask(platform.server, caller)).status == 200
    assert flag in platform.settle_one(caller).flags.split(",")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(usage_place=UsagePlace.NOWHERE),
        Behaviour(usage={"prompt_tokens": "many", "completion_tokens": -1}),
    ],
    ids=["missing", "unreadable"],
)
async def test_without_readable_usage_the_text_is_counted_and_marked_as_estimated(
    platform: Platform, behaviour: Behaviour, stream: bool
) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(behaviour, target=caller.model)
    answer = await ask(platform.server, caller, stream=stream)
    assert answer.text == "amber birch cedar delta "
    record = platform.settle_one(caller)
    assert (record.status, record.source) == (UsageStatus.COMPLETED, UsageSource.ESTIMATED)
    assert record.input_tokens == 10
    assert record.charged_nanousd == 10 * 1_000 + record.output_tokens * 4_000
    assert 4 <= record.output_tokens <= 8


@pytest.mark.parametrize("place", list(UsagePlace))
async def test_usage_is_read_wherever_a_stream_carries_it(platform: Platform, place: UsagePlace) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(usage_place=place), target=caller.model)
    answer = await ask(platform.server, caller, stream=True, stream_options={"include_usage": True})
    assert answer.is_whole
    record = platform.settle_one(caller)
    expected = UsageSource.ESTIMATED if place is UsagePlace.NOWHERE else UsageSource.PROVIDER
    assert record.source == expected
    if expected is UsageSource.PROVIDER:
        assert (record.input_tokens, record.output_tokens) == (3, 4)


async def test_the_books_reconcile_to_zero_difference(platform: Platform) -> None:
    callers: list[Caller] = [platform.make_caller() for _ in range(3)]
    for caller, behaviour in zip(callers, (Behaviour(), error(503), Behaviour(done=False)), strict=True):
        platform.upstream.queue(behaviour, target=caller.model)
        await ask(platform.server, caller, stream=True)
        platform.settle_one(caller)
    platform.reconcile()

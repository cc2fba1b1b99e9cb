"""What a call costs over HTTP: tiers, batches, terms and own lists, each recomputed by `reconcile` from its rows."""

import aiohttp
import pytest

from billing.bands import PriceBand, add_batch_discount, complete_rates
from billing.models import MarkupBasis
from billing.pricing import publish_price
from billing.terms import publish_terms, withdraw_terms
from keys.models import Customer
from tests.flows.platform import Caller, Platform
from tests.flows.wire import ask, chat_body, open_client
from tests.upstream import Behaviour, make_usage

USD = 10**9
RATES = {
    "input_nanousd": 1 * USD,
    "output_nanousd": 4 * USD,
    "provider_input_nanousd": 500_000_000,
    "provider_output_nanousd": 2 * USD,
}
TIER = PriceBand(above_input_tokens=8, rates={"input_nanousd": 3 * USD, "output_nanousd": 6 * USD})


def make_priced_caller(platform: Platform, *, credit_usd: str = "10") -> Caller:
    """Make a caller of a model with a tier above 8 input tokens, and batches at half the price."""
    model = platform.make_model(with_price=False)
    bands = add_batch_discount(complete_rates(RATES), [TIER], discount=5_000, provider_discount=5_000)
    platform.run(lambda: publish_price(model=model, rates=RATES, bands=bands, author="tests"))
    return platform.make_caller(model=model, credit_usd=credit_usd)


async def test_an_input_above_the_tier_pays_its_rates_for_all_tokens(platform: Platform) -> None:
    caller = make_priced_caller(platform)
    for prompt, expected in ((8, 8 * 1_000 + 4 * 4_000), (9, 9 * 3_000 + 4 * 6_000)):
        usage = make_usage(prompt_tokens=prompt, completion_tokens=4)
        platform.upstream.queue(Behaviour(usage=usage), target=caller.model)
        answer = await ask(platform.server, caller)
        assert (answer.status, answer.body["tollkeeper"]["cost_usd"]) == (200, f"0.{expected:09d}".rstrip("0"))
    assert [r.flags for r in platform.wait_for_usage(caller, 2)] == ["", ""]
    platform.assert_settled(caller)
    platform.reconcile()


async def test_a_call_that_asked_again_pays_each_attempt_by_its_own_tier(platform: Platform) -> None:
    caller = make_priced_caller(platform)
    # Neither the first nor the sum decides about the other: 6 is below the tier, 9 above it, 15 is nobody's size.
    for prompt, text in ((6, "no JSON"), (9, "{}")):
        usage = make_usage(prompt_tokens=prompt, completion_tokens=4)
        platform.upstream.queue(Behaviour(usage=usage, text=text), target=caller.model)
    schema = {"type": "json_schema", "json_schema": {"name": "any", "schema": {"type": "object"}}}
    answer = await ask(platform.server, caller, response_format=schema)
    costs = [attempt["cost_usd"] for attempt in answer.body["tollkeeper"]["attempts"]]
    assert (answer.status, costs) == (200, ["0.000022", "0.000051"])
    assert answer.body["tollkeeper"]["cost_usd"] == "0.000073"
    record = platform.settle_one(caller)
    # The tier has no provider rates of its own.
    found = (record.cost_nanousd, record.charged_nanousd, record.provider_cost_nanousd)
    assert found == (73_000, 73_000, 15 * 500 + 8 * 2_000)
    platform.reconcile()


async def test_the_hold_of_several_attempts_covers_each_of_them(platform: Platform) -> None:
    # Dear below the tier, cheap above: the most that one call of the summed size can cost is less than two short calls.
    model = platform.make_model(with_price=False)
    cheap = PriceBand(above_input_tokens=2_000, rates={"input_nanousd": 0, "output_nanousd": 0})
    rates = {"input_nanousd": 1 * USD, "output_nanousd": 0, "request_nanousd": 5 * USD}
    platform.run(lambda: publish_price(model=model, rates=rates, bands=[cheap], author="tests"))
    caller = platform.make_caller(model=model, credit_usd="100")
    for text in ("no JSON", "{}"):
        usage = make_usage(prompt_tokens=3, completion_tokens=4)
        platform.upstream.queue(Behaviour(usage=usage, text=text), target=caller.model)
    schema = {"type": "json_schema", "json_schema": {"name": "any", "schema": {"type": "object"}}}
    assert (await ask(platform.server, caller, response_format=schema)).status == 200
    record = platform.settle_one(caller)
    assert (record.flags, record.charged_nanousd) == ("asked_again", 2 * (3_000 + 5 * USD))
    platform.reconcile()


async def test_the_hold_covers_the_tier_that_the_call_can_reach(platform: Platform) -> None:
    model = make_priced_caller(platform).model
    # 10 tokens by our own count, 20 out: both at the tier's rates.
    most = 10 * 3_000 + 20 * 6_000
    poor = platform.make_caller(model=model, credit_nanousd=most - 1)
    refused = await ask(platform.server, poor, max_completion_tokens=20)
    assert (refused.status, refused.error["details"]["needed_usd"]) == (402, "0.00015")
    able = platform.make_caller(model=model, credit_nanousd=most)
    assert (await ask(platform.server, able, max_completion_tokens=20)).status == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "answered", "is_batch"),
    [("flex", "flex", True), ("flex", "default", False), ("flex", None, False), (None, "flex", False)],
)
async def test_a_batch_price_needs_the_callers_wish_and_the_providers_word(
    platform: Platform, asked: str | None, answered: str | None, is_batch: bool, stream: bool
) -> None:
    caller = make_priced_caller(platform)
    platform.upstream.queue(Behaviour(service_tier=answered), target=caller.model)
    options = {} if asked is None else {"service_tier": asked}
    assert (await ask(platform.server, caller, stream=stream, **options)).status == 200
    record = platform.settle_one(caller)
    full = 3 * 1_000 + 4 * 4_000
    assert record.processing == ("batch" if is_batch else "standard")
    assert (record.cost_nanousd, record.provider_cost_nanousd) == (
        (full // 2, full // 4) if is_batch else (full, full // 2)
    )
    platform.reconcile()


async def test_terms_count_from_the_next_call_on_and_are_named_by_the_record(platform: Platform) -> None:
    caller = make_priced_caller(platform)
    plan_id = platform.run(lambda: Customer.objects.get(pk=caller.customer_id).plan_id)
    plain = 3 * 1_000 + 4 * 4_000
    expected = []

    async def call(cost: int, terms_id: int | None) -> None:
        assert (await ask(platform.server, caller)).status == 200
        expected.append((cost, terms_id))

    await call(plain, None)
    of_plan = platform.run(lambda: publish_terms(plan_id=plan_id, markup_basis_points=1_000, author="t").pk)
    await call(plain * 11 // 10, of_plan)
    own = platform.run(
        lambda: (
            publish_terms(
                customer_id=caller.customer_id, basis=MarkupBasis.COST, markup_basis_points=10_000, author="t"
            ).pk
        )
    )
    await call(plain, own)
    platform.run(lambda: withdraw_terms(customer_id=caller.customer_id, author="t"))
    await call(plain * 11 // 10, of_plan)
    platform.run(
        lambda: publish_price(
            model=caller.model, rates={"input_nanousd": 1, "output_nanousd": 10**6}, author="t", price_list=caller.model
        )
    )
    listed = platform.run(lambda: publish_terms(customer_id=caller.customer_id, price_list=caller.model, author="t").pk)
    await call(4, listed)
    found = [(r.cost_nanousd, r.price_terms_id) for r in platform.wait_for_usage(caller, len(expected))]
    assert found == expected
    platform.assert_settled(caller)
    platform.reconcile()


async def test_tags_of_body_and_header_and_the_end_user_are_recorded_and_spend_is_told_by_them(
    platform: Platform,
) -> None:
    caller = make_priced_caller(platform)
    async with open_client() as client:
        for feature in ("search", "search", "chat"):
            async with client.post(
                f"{platform.server.base_url}/chat/completions",
                json=chat_body(caller, metadata={"team": "blue"}, user="u-1"),
                headers={**caller.headers, "x-tags": f"feature={feature}"},
            ) as response:
                assert response.status == 200
        platform.wait_for_usage(caller, 3)
        found = await _get(client, platform, caller, "spend?group_by=tag:feature&interval=none")
        assert [(row["group"], row["calls"], row["charged_usd"]) for row in found["data"]] == [
            ("search", 2, "0.000038"),
            ("chat", 1, "0.000019"),
        ]
        found = await _get(client, platform, caller, "spend?group_by=end_user")
        assert [(row["group"], row["calls"]) for row in found["data"]] == [("u-1", 3)]
    assert {tuple(sorted(r.tags.items())) for r in platform.read_usage(caller)} == {
        (("feature", "search"), ("team", "blue")),
        (("feature", "chat"), ("team", "blue")),
    }


async def test_a_tag_that_could_not_be_stored_is_refused_and_harms_no_other_call(platform: Platform) -> None:
    caller = make_priced_caller(platform)
    for options in ({"metadata": {"a": "x\0y"}}, {"user": "a\0b"}, {"metadata": {"a": "x" * 513}}):
        answer = await ask(platform.server, caller, **options)
        assert (answer.status, answer.error["code"]) == (400, "invalid_tags")
    assert (await ask(platform.server, caller)).status == 200
    platform.settle_one(caller)


async def test_an_estimate_is_what_the_call_holds_and_takes_nothing(platform: Platform) -> None:
    caller = make_priced_caller(platform)
    body = chat_body(caller, max_completion_tokens=20)
    before = platform.read_balance(caller)
    async with open_client() as client:
        url = f"{platform.server.base_url}/estimates"
        async with client.post(url, json=body, headers=caller.headers) as response:
            estimate = await response.json()
            assert response.status == 200
    assert (estimate["tokens"]["input"], estimate["tokens"]["output"]) == (10, 20)
    assert (estimate["most_cost_usd"], estimate["would_be_admitted"]) == ("0.00015", True)
    assert (platform.read_balance(caller), platform.read_holds(caller), platform.read_usage(caller)) == (before, [], [])
    assert platform.requests_for(caller.model) == []


async def _get(
    client: aiohttp.ClientSession, platform: Platform, caller: Caller, path: str
) -> dict[str, list[dict[str, object]]]:
    async with client.get(f"{platform.server.base_url}/{path}", headers=caller.headers) as response:
        assert response.status == 200
        found: dict[str, list[dict[str, object]]] = await response.json()
        return found

"""The response cache over real sockets: the same call gets the answer that it had, where somebody says that it may."""

import json
from typing import Any

import pytest
from openai import OpenAI

from billing.models import CacheState
from gateway.cache_models import PurgeScope
from gateway.caching.purging import purge_answers
from gateway.models import Model
from keys.issuing import revoke_key
from keys.models import Customer
from prompts.models import Prompt
from tests import factories
from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.flows.test_prompt_runs import make, run
from tests.flows.wire import Answer, ask, open_client
from tests.upstream import Behaviour, ToolCall, error

HOUR = {"cache-control": "max-age=3600"}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


def set_model(platform: Platform, caller: Caller, **columns: Any) -> None:
    platform.run(lambda: Model.objects.filter(name=caller.model).update(**columns))


def states(platform: Platform, caller: Caller) -> list[str]:
    return [record.cache for record in platform.read_usage(caller)]


def told(answer: Answer) -> dict[str, Any]:
    """Return the receipt of an answer."""
    found: dict[str, Any] = (answer.events[-1] if answer.is_stream else answer.body)["tollkeeper"]
    return found


STREAM = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("options", [{}, STREAM])
async def test_the_same_call_gets_the_same_answer_for_nothing(
    platform: Platform, caller: Caller, options: dict[str, Any]
) -> None:
    first = await ask(platform.server, caller, headers=HOUR, **options)
    second = await ask(platform.server, caller, headers=HOUR, **options)
    assert (first.status, first.headers["x-cache"], second.status, second.headers["x-cache"]) == (
        200, "miss", 200, "hit",
    )  # fmt: skip
    assert int(second.headers["age"]) < 60
    assert "age" not in first.headers
    # Byte for byte, but for what is said of this call itself.
    cut = b'"tollkeeper":'
    assert second.raw.partition(cut)[0] == first.raw.partition(cut)[0]
    assert second.ids == first.ids if options else second.body["id"] == first.body["id"]
    assert told(second)["request_id"] == second.headers["x-request-id"] != first.headers["x-request-id"]
    assert (told(first)["cache"]["state"], told(second)["cache"]["state"]) == ("miss", "hit")
    assert told(second)["usage"] == told(first)["usage"]
    assert (told(second)["cost_usd"], told(second)["balance_usd"]) == ("0.00", told(first)["balance_usd"])
    assert len(platform.requests_for(caller.model)) == 1
    miss, hit = platform.wait_for_usage(caller, 2)
    assert (miss.cache, hit.cache) == (CacheState.MISS, CacheState.HIT)
    assert (hit.cost_nanousd, hit.charged_nanousd, hit.provider_cost_nanousd) == (0, 0, 0)
    assert (hit.input_tokens, hit.output_tokens) == (miss.input_tokens, miss.output_tokens)
    assert hit.reused_bytes > 0
    platform.assert_settled(caller)
    platform.reconcile()


async def test_without_a_word_of_it_nothing_is_reused(platform: Platform, caller: Caller) -> None:
    answers = [await ask(platform.server, caller) for _ in range(2)]
    assert all("x-cache" not in answer.headers and "cache" not in told(answer) for answer in answers)
    assert len(platform.requests_for(caller.model)) == 2
    assert states(platform, caller) == ["", ""]


async def test_a_model_can_reuse_by_default_and_charge_a_part(platform: Platform, caller: Caller) -> None:
    set_model(platform, caller, cache_seconds=60, reused_price_percent=25)
    for _ in range(3):
        await ask(platform.server, caller)
    miss, *hits = platform.wait_for_usage(caller, 3)
    assert [hit.cache for hit in hits] == [CacheState.HIT] * 2
    assert {(hit.charged_nanousd, hit.reused_percent) for hit in hits} == {(miss.charged_nanousd // 4, 25)}
    platform.assert_settled(caller)
    platform.reconcile()


async def test_a_plan_has_its_own_price_of_reused_answers(platform: Platform, caller: Caller) -> None:
    set_model(platform, caller, cache_seconds=60, reused_price_percent=25)
    dear = platform.make_caller(model=caller.model, plan_limits={"reused_price_percent": 100})
    for _ in range(2):
        await ask(platform.server, dear)
    miss, hit = platform.wait_for_usage(dear, 2)
    assert (hit.cache, hit.charged_nanousd) == (CacheState.HIT, miss.charged_nanousd)
    platform.assert_settled(dear)


async def test_no_cache_asks_anew_and_no_store_leaves_nothing(platform: Platform, caller: Caller) -> None:
    set_model(platform, caller, cache_seconds=60)
    platform.upstream.queue(*(Behaviour(text=text) for text in ("one", "two", "three")), target=caller.model)
    answers = [
        await ask(platform.server, caller, headers={"cache-control": said})
        for said in ("no-store", "", "no-cache", "", "no-store, max-age=5")
    ]
    assert [answer.headers["x-cache"] for answer in answers] == ["bypass", "miss", "bypass", "hit", "bypass"]
    assert [answer.text for answer in answers[:4]] == ["one", "two", "three", "three"]


async def test_only_if_cached_asks_nobody(platform: Platform, caller: Caller) -> None:
    only = {"cache-control": "only-if-cached, max-age=60"}
    refused = await ask(platform.server, caller, headers=only)
    assert (refused.status, refused.error["code"]) == (504, "answer_not_cached")
    assert refused.headers["x-should-retry"] == "false"
    assert platform.requests_for(caller.model) == []
    await ask(platform.server, caller, headers=HOUR)
    assert (await ask(platform.server, caller, headers=only)).headers["x-cache"] == "hit"
    set_model(platform, caller, cache_limit_seconds=0)
    assert (await ask(platform.server, caller, headers=only)).status == 504


@pytest.mark.parametrize("said", ["max-age=soon", "max-age=-1", "only-if-cached, no-cache"])
async def test_what_cannot_be_meant_is_refused(platform: Platform, caller: Caller, said: str) -> None:
    answer = await ask(platform.server, caller, headers={"cache-control": said})
    assert (answer.status, answer.error["code"]) == (400, "invalid_cache_control")


async def test_another_customer_learns_nothing_unless_the_model_is_shared(platform: Platform, caller: Caller) -> None:
    stranger = platform.make_caller(model=caller.model)
    colleague = platform.run(_second_key, caller)
    await ask(platform.server, caller, headers=HOUR)
    assert (await ask(platform.server, stranger, headers=HOUR)).headers["x-cache"] == "miss"
    assert (await ask(platform.server, colleague, headers=HOUR)).headers["x-cache"] == "hit"
    set_model(platform, caller, cache_is_shared=True)
    assert (await ask(platform.server, caller, headers=HOUR)).headers["x-cache"] == "miss"
    assert (await ask(platform.server, stranger, headers=HOUR)).headers["x-cache"] == "hit"


async def test_a_hit_is_held_to_key_and_limits(platform: Platform) -> None:
    caller = platform.make_caller(customer_limits={"requests_per_minute": 2, "output_tokens_per_minute": 258})
    answers = [await ask(platform.server, caller, headers=HOUR) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"
    # By its tokens the second one would not have fitted.
    assert answers[2].error["details"]["limit_name"] == "requests"
    platform.run(revoke_key, key_id=caller.key_id, reason="for a test")
    assert (await ask(platform.server, caller, headers=HOUR)).status == 401
    platform.assert_settled(caller)


async def test_a_failed_or_filtered_answer_is_not_kept(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(error(500), Behaviour(finish_reason="content_filter"), target=caller.model)
    answers = [await ask(platform.server, caller, headers=HOUR) for _ in range(4)]
    assert [answer.status for answer in answers] == [502, 200, 200, 200]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "miss", "miss", "hit"]


async def test_a_change_of_what_serves_the_model_makes_other_answers(platform: Platform, caller: Caller) -> None:
    await ask(platform.server, caller, headers=HOUR)
    platform.add_deployment(caller.model, priority=2)
    assert (await ask(platform.server, caller, headers=HOUR)).headers["x-cache"] == "miss"


async def test_a_purge_counts_from_the_next_call_on(platform: Platform, caller: Caller) -> None:
    await ask(platform.server, caller, headers=HOUR)
    platform.run(purge_answers, PurgeScope.CUSTOMER, str(caller.customer_id), reason="for a test", author="tests")
    answers = [await ask(platform.server, caller, headers=HOUR) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit"]


async def test_usage_tells_what_the_cache_did(platform: Platform, caller: Caller) -> None:
    for _ in range(3):
        await ask(platform.server, caller, headers=HOUR)
    async with open_client() as client:
        url = f"{platform.server.base_url}/usage?cache=hit"
        async with client.get(url, headers=caller.headers) as response:
            found = (await response.json())["data"]
    assert [(row["cache"], row["charged_usd"]) for row in found] == [("hit", "0.00")] * 2


async def test_tool_calls_and_objects_are_reused_too(platform: Platform, caller: Caller) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    formats = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}
    # The second call is asked again; what is kept is what came of it.
    called, wrong, right = (
        Behaviour(tool_calls=(ToolCall(name="look_up"),)),
        Behaviour(text="no"),
        Behaviour(text='{"n": 1}'),
    )
    platform.upstream.queue(called, wrong, right, target=caller.model)
    wanted: list[dict[str, Any]] = [{"tools": [TOOL]}, formats] * 2
    answers = [await ask(platform.server, caller, headers=HOUR, **options) for options in wanted]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "miss", "hit", "hit"]
    assert {answer.body["choices"][0]["finish_reason"] for answer in answers[::2]} == {"tool_calls"}
    assert answers[2].body["choices"] == answers[0].body["choices"]
    assert [answer.text for answer in answers[1::2]] == ['{"n": 1}'] * 2
    platform.assert_settled(caller)


@pytest.mark.parametrize("stream", [False, True])
async def test_runs_of_a_prompt_are_reused_as_runs(platform: Platform, caller: Caller, stream: bool) -> None:
    name = make(platform, caller)
    first = await run(platform, caller, name, headers=HOUR, stream=stream)
    second = await run(platform, caller, name, headers=HOUR, stream=stream)
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    other = await run(platform, caller, name, headers=HOUR, stream=stream, inputs={"name": "Bob"})
    assert other.headers["x-cache"] == "miss"
    found = [json.loads(answer.data[-1]) if stream else answer.body for answer in (first, second)]
    assert found[0]["output"] == found[1]["output"]
    assert found[0]["id"] != found[1]["id"]
    assert found[1]["cache"]["state"] == "hit"
    miss, hit, _ = platform.wait_for_usage(caller, 3)
    assert (hit.prompt_version, hit.prompt_label) == (miss.prompt_version, miss.prompt_label)
    platform.assert_settled(caller)


async def test_a_prompt_has_its_own_default(platform: Platform, caller: Caller) -> None:
    name = make(platform, caller)
    platform.run(lambda: Prompt.objects.filter(name=name).update(cache_seconds=60))
    answers = [await run(platform, caller, name) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit"]


async def test_a_socket_says_it_in_its_message(platform: Platform, caller: Caller) -> None:
    async with open_socket(platform.server, caller) as socket:
        found = []
        for _ in range(2):
            await socket.call(caller, cache_control="max-age=60")
            found.append(await socket.finish())
        first, second = found
        assert [messages[0]["cache"] for messages in found] == ["miss", "hit"]
        assert second[-1]["tollkeeper"]["cache"]["state"] == "hit"
        assert first[-1]["usage"] == second[-1]["usage"]
        await socket.send({"type": "call", "id": "2", "cache_control": 5, "body": {}})
        assert (await socket.receive())["error"]["param"] == "cache_control"
    # The chunks are those of an event stream.
    answer = await ask(platform.server, caller, headers=HOUR, stream=True)
    assert answer.headers["x-cache"] == "hit"
    assert answer.is_whole


async def test_a_repeat_by_its_key_is_a_repeat_and_no_hit(platform: Platform, caller: Caller) -> None:
    keyed = {**HOUR, "idempotency-key": "one"}
    await ask(platform.server, caller, headers=HOUR)
    first = await ask(platform.server, caller, headers=keyed)
    second = await ask(platform.server, caller, headers=keyed)
    assert first.headers["x-cache"] == "hit"
    assert "x-cache" not in second.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert told(second)["request_id"] == told(first)["request_id"]
    assert states(platform, caller) == ["miss", "hit"]
    platform.assert_settled(caller)


def test_the_sdk_reads_a_cached_answer_like_any_other(platform: Platform, caller: Caller) -> None:
    client = OpenAI(base_url=platform.server.base_url, api_key=caller.token, max_retries=0, default_headers=HOUR)
    found = []
    for _ in range(2):
        stream = client.chat.completions.create(
            model=caller.model, messages=[{"role": "user", "content": "a"}], stream=True
        )
        found.append([chunk.model_dump() for chunk in stream])
    assert found[0] == found[1]
    assert len(platform.requests_for(caller.model)) == 1


def _second_key(caller: Caller) -> Caller:
    issued = factories.make_key(Customer.objects.get(pk=caller.customer_id))
    return Caller(customer_id=caller.customer_id, key_id=issued.key.pk, token=issued.token, model=caller.model)

"""`Idempotency-Key`: whatever happens to the first call, sending it again is safe, and charged once."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from openai import ConflictError, OpenAI, UnprocessableEntityError

from keys.models import ApiKey
from keys.scopes import Scope
from tests.flows.platform import Caller, Platform, Server
from tests.flows.wire import RawCall, ask, ask_many, chat_body, open_client
from tests.upstream import Behaviour, error

KEY = {"idempotency-key": "order-4711"}


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_gets_the_same_answer_and_costs_nothing(
    platform: Platform, caller: Caller, stream: bool
) -> None:
    options = {"stream": stream, **({"stream_options": {"include_usage": True}} if stream else {})}
    first = await ask(platform.server, caller, headers=KEY, **options)
    second = await ask(platform.server, caller, headers=KEY, **options)
    assert (first.status, second.status) == (200, 200)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    if stream:
        assert second.is_whole
        assert second.ids == first.ids
        assert second.events[:-1] == first.events[:-1]
        receipts = [answer.events[-1]["tollkeeper"] for answer in (first, second)]
    else:
        assert {**second.body, "tollkeeper": 0} == {**first.body, "tollkeeper": 0}
        receipts = [answer.body["tollkeeper"] for answer in (first, second)]
    # The receipt is the first call's: its id, its cost.
    same = ("request_id", "cost_usd", "usage", "balance_usd")
    assert [receipts[1][name] for name in same] == [receipts[0][name] for name in same]
    assert len(platform.requests_for(caller.model)) == len(platform.read_usage(caller)) == 1
    platform.assert_settled(caller)


async def test_the_order_of_members_and_white_space_do_not_matter(platform: Platform, caller: Caller) -> None:
    first = await ask(platform.server, caller, headers=KEY)
    body = json.dumps(dict(reversed(chat_body(caller).items())), indent=3).encode()
    async with await RawCall.connect(platform.server) as call:
        call.writer.write(RawCall.head(caller, f"content-length: {len(body)}", "idempotency-key: order-4711") + body)
        assert json.loads(await call.read_body())["id"] == first.body["id"]


async def test_another_body_under_the_same_key_is_refused(platform: Platform, caller: Caller) -> None:
    first = await ask(platform.server, caller, headers=KEY)
    answer = await ask(platform.server, caller, headers=KEY, temperature=0.5)
    assert (answer.status, answer.error["code"]) == (422, "idempotency_key_reused")
    assert answer.error["details"] == {"first_request_id": first.headers["x-request-id"]}


async def test_of_many_at_once_one_runs_and_the_others_are_told_so(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(hold_at=0), target=caller.model)
    asking = asyncio.create_task(ask_many(platform.server, caller, n=20, headers=KEY))
    await asyncio.to_thread(platform.upstream.wait_until_held, n=1)
    platform.upstream.release()
    answers = await asking
    statuses = sorted(answer.status for answer in answers)
    assert statuses[0] == 200
    refused = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, answer.error["code"]) for answer in refused} <= {(409, "idempotency_in_flight")}
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert len(platform.requests_for(caller.model)) == len(platform.read_usage(caller)) == 1
    assert (await ask(platform.server, caller, headers=KEY)).headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_call_may_be_sent_again(platform: Platform, caller: Caller, stream: bool) -> None:
    platform.upstream.queue(error(500), target=caller.model)
    assert (await ask(platform.server, caller, headers=KEY, stream=stream)).status == 502
    answer = await ask(platform.server, caller, headers=KEY, stream=stream)
    assert answer.status == 200
    assert "idempotency-replayed" not in answer.headers
    platform.assert_settled(caller)


async def test_a_client_that_lost_its_connection_finds_the_whole_answer(platform: Platform, caller: Caller) -> None:
    platform.upstream.queue(Behaviour(hold_at=2), target=caller.model)
    body = json.dumps(chat_body(caller, stream=True)).encode()
    async with await RawCall.connect(platform.server) as call:
        call.writer.write(RawCall.head(caller, f"content-length: {len(body)}", "idempotency-key: order-4711") + body)
        await call.read_events(2)
    await asyncio.to_thread(platform.release)
    await asyncio.to_thread(platform.wait_for_usage, caller)
    answer = await ask(platform.server, caller, headers=KEY, stream=True)
    assert answer.headers["idempotency-replayed"] == "true"
    assert answer.is_whole
    assert len(platform.requests_for(caller.model)) == len(platform.read_usage(caller)) == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "schlüssel"])
async def test_a_malformed_key_is_refused(platform: Platform, caller: Caller, key: str) -> None:
    body = json.dumps(chat_body(caller)).encode()
    line = f"idempotency-key: {key}"
    async with await RawCall.connect(platform.server) as call:
        head = RawCall.head(caller, f"content-length: {len(body)}", line)
        call.writer.write(head + body)
        assert await call.read_status() == 400
        assert json.loads(await call.read_body())["error"]["code"] == "invalid_idempotency_key"


async def test_of_many_posts_at_once_on_two_servers_one_makes_a_key_and_all_get_it(own_platform: Any) -> None:
    platform: Platform = own_platform(servers=2)
    manager = platform.make_caller(scopes=list(Scope))

    async def make(client: aiohttp.ClientSession, server: Server) -> dict[str, Any]:
        url, headers = f"{server.base_url}/keys", manager.headers | KEY
        async with client.post(url, json={"name": "worker"}, headers=headers) as response:
            assert response.status == 201
            answer: dict[str, Any] = await response.json()
        return answer

    async with open_client() as client:
        made = await asyncio.gather(*(make(client, server) for server in platform.servers * 5))
    assert {(answer["id"], answer["secret"]) for answer in made} == {(made[0]["id"], made[0]["secret"])}
    assert platform.run(lambda: ApiKey.objects.filter(name="worker").count()) == 1


def test_the_sdk_raises_its_own_errors(platform: Platform, caller: Caller) -> None:
    client = OpenAI(base_url=platform.server.base_url, api_key=caller.token, max_retries=0)
    with client.with_options(default_headers=KEY) as client:
        first = client.chat.completions.create(model=caller.model, messages=[{"role": "user", "content": "a"}])
        again = client.chat.completions.create(model=caller.model, messages=[{"role": "user", "content": "a"}])
        assert again.id == first.id
        with pytest.raises(UnprocessableEntityError):
            client.chat.completions.create(model=caller.model, messages=[{"role": "user", "content": "b"}])
    assert issubclass(ConflictError, Exception)

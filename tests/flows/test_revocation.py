"""A key that ends, ends with the next call: on every process, with warm caches, and on sockets that are open."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from keys.customers import set_customer_status
from keys.issuing import revoke_key
from keys.models import ApiKey, CustomerStatus, KeyEnvironment
from keys.scopes import Scope
from tests.factories import make_price
from tests.flows.platform import Caller, Platform
from tests.flows.sockets import open_socket
from tests.flows.wire import RawCall, ask
from tests.upstream import Behaviour


def revoke(caller: Caller) -> None:
    revoke_key(key_id=caller.key_id, reason="for a test")


def suspend(caller: Caller) -> None:
    set_customer_status(customer_id=caller.customer_id, status=CustomerStatus.SUSPENDED)


def expire(caller: Caller) -> None:
    ApiKey.objects.filter(pk=caller.key_id).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))


def delete(caller: Caller) -> None:
    ApiKey.objects.filter(pk=caller.key_id).delete()


ENDINGS: dict[str, Callable[[Caller], None]] = {"revoked": revoke, "suspended": suspend, "expired": expire}


@pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_next_call_is_refused(platform: Platform, ending: str, is_warm: bool) -> None:
    caller = platform.make_caller()
    if is_warm:
        assert (await ask(platform.server, caller)).status == 200
    platform.run(ENDINGS[ending], caller)
    sent = len(platform.requests_for(caller.model))
    answers = [await ask(platform.server, caller) for _ in range(2)]
    assert {(answer.status, answer.error["code"]) for answer in answers} == {(401, "invalid_api_key")}
    assert len(platform.requests_for(caller.model)) == sent
    platform.assert_settled(caller)


@pytest.mark.parametrize(
    "options",
    [{"messages": []}, {"no_such_parameter": 1}, {"model": "no-such-model"}, {"max_completion_tokens": 10**6}],
    ids=["body", "parameter", "model", "limit"],
)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_call_that_would_be_refused_anyway_is_refused_for_its_key_first(
    platform: Platform, ending: str, options: dict[str, object]
) -> None:
    caller = platform.make_caller()
    assert (await ask(platform.server, caller)).status == 200
    assert (await ask(platform.server, caller, **options)).status in (400, 404)
    platform.run(ENDINGS[ending], caller)
    assert (await ask(platform.server, caller, **options)).status == 401


async def test_a_deleted_key_is_refused_like_an_unknown_one(platform: Platform) -> None:
    caller = platform.make_caller()
    assert (await ask(platform.server, caller, messages=[])).status == 400
    platform.run(delete, caller)
    assert (await ask(platform.server, caller)).status == 401


async def test_all_ended_and_unknown_keys_are_told_the_same(platform: Platform) -> None:
    answers = []
    for ending in ENDINGS.values():
        caller = platform.make_caller()
        platform.run(ending, caller)
        answers.append(await ask(platform.server, caller))
    for token in ("tk_live_unknown", "sk-of-somebody-else", "x" * 5_000):
        guess = Caller(customer_id=0, key_id=0, token=token, model="m")
        answers.append(await ask(platform.server, guess))
    told = [{**answer.error, "request_id": ""} for answer in answers]
    assert all(one == told[0] for one in told)
    assert {answer.status for answer in answers} == {401}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_open_socket_is_closed_by_its_next_call(platform: Platform, ending: str) -> None:
    caller = platform.make_caller()
    async with open_socket(platform.server, caller) as socket:
        await socket.call(caller)
        assert (await socket.finish())[-1]["type"] == "done"
        platform.run(ENDINGS[ending], caller)
        await socket.call(caller)
        (refused,) = await socket.finish()
        assert (refused["type"], refused["id"], refused["error"]["code"]) == ("error", "1", "invalid_api_key")
        assert await socket.wait_closed() == 4401


async def test_a_stream_in_flight_when_its_key_is_revoked_ends_whole_and_is_billed(platform: Platform) -> None:
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(hold_at=2), target=caller.model)
    async with await RawCall.start(platform.server, caller, stream=True) as call:
        await call.read_events(2)
        platform.run(revoke, caller)
        platform.release()
        assert b"data: [DONE]" in await call.read_answer()
    assert platform.settle_one(caller).charged_nanousd == 19_000


async def test_a_customer_that_is_active_again_is_served_again(platform: Platform) -> None:
    caller = platform.make_caller()
    platform.run(suspend, caller)
    assert (await ask(platform.server, caller)).status == 401
    platform.run(set_customer_status, customer_id=caller.customer_id, status=CustomerStatus.ACTIVE)
    assert (await ask(platform.server, caller)).status == 200


async def test_a_new_limit_counts_from_the_next_call_on(platform: Platform) -> None:
    caller = platform.make_caller()
    assert (await ask(platform.server, caller)).status == 200
    platform.run(ApiKey.objects.filter(pk=caller.key_id).update, concurrency=0)
    assert (await ask(platform.server, caller)).error["code"] == "limit_is_zero"


async def test_a_key_without_the_scope_is_refused_with_its_name(platform: Platform) -> None:
    caller = platform.make_caller(scopes=[Scope.MODELS_READ])
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (403, "insufficient_scope")
    assert answer.error["details"] == {"required_scope": "chat:write"}


async def test_a_scope_that_is_taken_away_counts_from_the_next_call_on(platform: Platform) -> None:
    caller = platform.make_caller()
    assert (await ask(platform.server, caller)).status == 200
    platform.run(ApiKey.objects.filter(pk=caller.key_id).update, scopes=[Scope.MODELS_READ])
    answer = await ask(platform.server, caller)
    assert (answer.status, answer.error["code"]) == (403, "insufficient_scope")


async def test_a_scope_that_is_granted_counts_from_the_next_call_on(platform: Platform) -> None:
    caller = platform.make_caller(scopes=[Scope.MODELS_READ])
    assert (await ask(platform.server, caller)).status == 403
    platform.run(ApiKey.objects.filter(pk=caller.key_id).update, scopes=[Scope.CHAT_WRITE])
    assert (await ask(platform.server, caller)).status == 200


@pytest.mark.parametrize("allowed", [["other"], ["mode"], ["other-*"]])
async def test_a_model_beyond_the_keys_list_does_not_exist_for_it(platform: Platform, allowed: list[str]) -> None:
    caller = platform.make_caller(allowed_models=allowed)
    unknown = await ask(platform.server, caller, model="no-such-model")
    hidden = await ask(platform.server, caller)
    assert (hidden.status, hidden.error["code"]) == (404, "model_not_found")
    assert hidden.error["message"].replace(caller.model, "no-such-model") == unknown.error["message"]


async def test_a_model_is_found_by_name_or_prefix(platform: Platform) -> None:
    model = platform.make_model()
    for allowed in ([model], ["model-*"], ["other", model]):
        assert (await ask(platform.server, platform.make_caller(model=model, allowed_models=allowed))).status == 200


async def test_a_test_key_reaches_only_what_costs_nothing(platform: Platform) -> None:
    paid = platform.make_caller(environment=KeyEnvironment.TEST)
    assert (await ask(platform.server, paid)).error["code"] == "model_unavailable"
    assert platform.requests_for(paid.model) == []
    free = platform.make_caller(model=platform.make_model(upstream={"is_test": True}), environment=KeyEnvironment.TEST)
    assert (await ask(platform.server, free)).status == 200


async def test_a_model_is_callable_as_soon_as_it_exists_also_with_a_warm_key(platform: Platform) -> None:
    caller = platform.make_caller()
    assert (await ask(platform.server, caller)).status == 200
    for _ in range(5):
        model = platform.make_model()
        assert (await ask(platform.server, caller, model=model)).status == 200


async def test_a_price_that_was_missing_counts_as_soon_as_it_is_published(platform: Platform) -> None:
    model = platform.make_model(with_price=False)
    caller = platform.make_caller(model=model)
    assert (await ask(platform.server, caller)).error["code"] == "price_missing"
    platform.run(make_price, model)
    assert (await ask(platform.server, caller)).status == 200


@pytest.mark.services
@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_process_refuses_at_once(own_platform: Callable[..., Platform], ending: str) -> None:
    platform = own_platform(servers=2)
    caller = platform.make_caller()
    first, second = platform.servers
    for server in (first, second):
        assert (await ask(server, caller)).status == 200
    async with open_socket(second, caller) as socket:
        platform.run(ENDINGS[ending], caller)
        for server in (second, first):
            assert (await ask(server, caller)).status == 401
            assert (await ask(server, caller, messages=[])).status == 401
        await socket.call(caller)
        assert (await socket.finish())[-1]["error"]["code"] == "invalid_api_key"
        assert await socket.wait_closed() == 4401

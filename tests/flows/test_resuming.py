"""A stream that was asked for as resumable goes on where it broke, is billed once, and is nobody else's."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from billing.models import UsageSource, UsageStatus
from gateway.chat.counting import count_text
from gateway.models import OnDisconnect
from keys.flagging import end_feature_rule, set_feature
from keys.issuing import revoke_key
from keys.models import Customer, KeyEnvironment
from tests import prompting
from tests.factories import make_key
from tests.flows.platform import Caller, Platform
from tests.flows.resuming import EVENTS, ask_stream, break_off, go_on, id_of, start, text_from
from tests.flows.sockets import open_socket
from tests.flows.wire import JsonObject, ask, chat_body, open_client
from tests.upstream import Behaviour

RESUMABLE = {"x-resumable": "true"}


@pytest.fixture
def caller(platform: Platform) -> Caller:
    return platform.make_caller()


# ---- over HTTP


@pytest.mark.parametrize("read", [1, 3, EVENTS, EVENTS + 1])
@pytest.mark.parametrize("usage", [False, True])
async def test_a_cut_stream_goes_on_where_it_broke_while_it_runs(
    platform: Platform, caller: Caller, read: int, usage: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    stream_id = await break_off(platform, caller, read=read, hold_at=read if read <= EVENTS else "done", **options)
    asking = asyncio.create_task(ask_stream(platform.server, caller, stream_id, after=read - 1))
    await asyncio.to_thread(platform.release)
    rest = await asking
    assert (rest.status, rest.headers["x-stream-id"]) == (200, stream_id)
    assert rest.text == text_from(read)
    assert rest.ids == list(range(read, EVENTS + 1 + usage))
    assert rest.is_whole
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.request_id, record.status) == (stream_id, UsageStatus.COMPLETED)
    assert len(platform.requests_for(caller.model)) == 1


async def test_every_part_of_a_stream_that_has_ended_can_be_had_again(platform: Platform, caller: Caller) -> None:
    whole = await ask(platform.server, caller, stream=True, headers=RESUMABLE)
    stream_id = whole.headers["x-stream-id"]
    assert stream_id == whole.headers["x-request-id"]
    assert (await ask_stream(platform.server, caller, stream_id)).raw == whole.raw
    for position in whole.ids:
        rest = await ask_stream(platform.server, caller, stream_id, after=position)
        assert whole.raw.endswith(rest.raw)
        assert rest.ids == whole.ids[position + 1 :]
        assert rest.is_whole
    async with (
        open_client() as client,
        client.get(
            f"{platform.server.base_url}/streams/{stream_id}", params={"after": "1"}, headers=caller.headers
        ) as response,
    ):
        assert (await response.read()) == (await ask_stream(platform.server, caller, stream_id, after=1)).raw
    platform.settle_one(caller)


async def test_nothing_is_left_after_the_last_event(platform: Platform, caller: Caller) -> None:
    whole = await ask(platform.server, caller, stream=True, headers=RESUMABLE)
    answer = await ask_stream(platform.server, caller, whole.headers["x-stream-id"], after=whole.ids[-1] + 1)
    assert (answer.status, answer.raw) == (204, b"")


async def test_several_read_one_stream_and_each_gets_all_of_it(platform: Platform, caller: Caller) -> None:
    stream_id = await break_off(platform, caller, read=2, hold_at=2)
    asking = [asyncio.create_task(ask_stream(platform.server, caller, stream_id)) for _ in range(3)]
    # Another one comes back and leaves again.
    async with await go_on(platform.server, caller, stream_id) as call:
        await call.read_events(2)
    await asyncio.to_thread(platform.release)
    answers = await asyncio.gather(*asking)
    assert {answer.text for answer in answers} == {text_from(0)}
    assert all(answer.is_whole for answer in answers)
    await asyncio.to_thread(platform.settle_one, caller)


async def test_a_fault_of_the_upstream_is_the_last_event_for_whoever_comes_back(
    platform: Platform, caller: Caller
) -> None:
    platform.upstream.queue(Behaviour(events=EVENTS, cut_at=3), target=caller.model)
    broken = await ask(platform.server, caller, stream=True, headers=RESUMABLE)
    rest = await ask_stream(platform.server, caller, broken.headers["x-stream-id"], after=1)
    assert rest.error["code"] == "upstream_interrupted"
    assert broken.raw.endswith(rest.raw)


async def test_a_stream_that_nobody_asked_to_keep_is_not_kept(platform: Platform, caller: Caller) -> None:
    for headers in ({}, {"x-resumable": "false"}):
        whole = await ask(platform.server, caller, stream=True, headers=headers)
        assert "x-stream-id" not in whole.headers
        answer = await ask_stream(platform.server, caller, whole.headers["x-request-id"])
        assert (answer.status, answer.error["code"]) == (404, "stream_not_found")


async def test_a_whole_answer_is_no_stream(platform: Platform, caller: Caller) -> None:
    answer = await ask(platform.server, caller, headers=RESUMABLE)
    assert (answer.status, "x-stream-id" in answer.headers) == (200, False)


async def test_a_wish_that_is_neither_true_nor_false_is_refused(platform: Platform, caller: Caller) -> None:
    answer = await ask(platform.server, caller, stream=True, headers={"x-resumable": "perhaps"})
    assert (answer.status, answer.error["code"]) == (400, "stream_resumable_invalid")


@pytest.mark.parametrize("position", ["-1", "x", "1.5", "٣", "9" * 40])
async def test_a_position_that_is_no_number_is_refused(platform: Platform, caller: Caller, position: str) -> None:
    async with (
        open_client() as client,
        client.get(
            f"{platform.server.base_url}/streams/req_x", params={"after": position}, headers=caller.headers
        ) as response,
    ):
        assert (response.status, (await response.json())["error"]["param"]) == (400, "after")


async def test_other_methods_are_refused(platform: Platform, caller: Caller) -> None:
    answer = await ask_stream(platform.server, caller, "req_x", method="PUT")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, DELETE")


# ---- who may


async def test_only_a_key_that_could_have_made_the_call_may_go_on_with_it(platform: Platform, caller: Caller) -> None:
    whole = await ask(platform.server, caller, stream=True, headers=RESUMABLE)
    stream_id = whole.headers["x-stream-id"]
    customer = platform.run(lambda: Customer.objects.get(pk=caller.customer_id))
    sister = platform.run(make_key, customer)
    others = [
        platform.make_caller(model=caller.model).token,
        platform.run(make_key, customer, scopes=["models:read"]).token,
        platform.run(make_key, customer, allowed_models=["another"]).token,
        platform.run(make_key, customer, environment=KeyEnvironment.TEST).token,
    ]
    for token in others:
        stranger = replace(caller, token=token)
        for method in ("GET", "DELETE"):
            answer = await ask_stream(platform.server, stranger, stream_id, method=method)
            unknown = await ask_stream(platform.server, stranger, "req_unknown", method=method)
            assert answer.status == unknown.status == 404
            assert {**answer.error, "request_id": 0} == {**unknown.error, "request_id": 0}
    assert (await ask_stream(platform.server, replace(caller, token=sister.token), stream_id)).raw == whole.raw


async def test_a_revoked_key_does_not_go_on(platform: Platform, caller: Caller) -> None:
    whole = await ask(platform.server, caller, stream=True, headers=RESUMABLE)
    platform.run(revoke_key, key_id=caller.key_id, reason="for a test")
    answer = await ask_stream(platform.server, caller, whole.headers["x-stream-id"])
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_asking_for_streams_counts_among_calls_of_the_control_plane(platform: Platform) -> None:
    caller = platform.make_caller(plan_limits={"control_requests_per_minute": 1})
    whole = await ask(platform.server, caller, stream=True, headers=RESUMABLE)
    stream_id = whole.headers["x-stream-id"]
    first, second = [await ask_stream(platform.server, caller, stream_id) for _ in range(2)]
    assert (first.status, second.status, second.error["code"]) == (200, 429, "rate_limit_exceeded")
    assert first.headers["x-ratelimit-remaining-requests"] == "0"


# ---- its end


async def test_a_cancelled_stream_ends_for_everybody_and_is_charged_for_what_there_was(
    platform: Platform, caller: Caller
) -> None:
    stream_id = await break_off(platform, caller, read=2, hold_at=2)
    asking = asyncio.create_task(ask_stream(platform.server, caller, stream_id))
    answer = await ask_stream(platform.server, caller, stream_id, method="DELETE")
    assert (answer.status, answer.body) == (202, {"object": "stream", "id": stream_id, "status": "ending"})
    assert (await asking).error["code"] == "call_cancelled"
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.status, record.source) == (UsageStatus.CANCELLED, UsageSource.ESTIMATED)
    assert record.output_tokens == count_text(text_from(0, to=2))
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    again = await ask_stream(platform.server, caller, stream_id, after=1)
    assert again.error["code"] == "call_cancelled"
    removed = await ask_stream(platform.server, caller, stream_id, method="DELETE")
    assert (removed.status, removed.body["status"]) == (200, "removed")
    assert (await ask_stream(platform.server, caller, stream_id)).status == 404


@pytest.fixture
def hasty_platform(own_platform: Callable[..., Platform]) -> Platform:
    """Return a platform that waits for nobody and keeps nothing for long."""
    return own_platform(STREAM_AWAY_SECONDS="0.2", STREAM_KEEP_SECONDS="0.5", STREAM_BUFFER_BYTES="2000")


async def test_a_stream_waits_so_long_and_then_ends_as_its_upstream_wants(hasty_platform: Platform) -> None:
    platform = hasty_platform
    stopping = platform.make_caller()
    stream_id = await break_off(platform, stopping, read=2, hold_at=2)
    record = await asyncio.to_thread(platform.settle_one, stopping)
    assert (record.request_id, record.status, record.error_code) == (stream_id, UsageStatus.CANCELLED, "call_cancelled")
    await asyncio.to_thread(platform.upstream.wait_for_disconnect)
    # One that bills a call whole is read to its end, and the events are there for whoever comes back.
    draining = platform.make_caller(model=platform.make_model(upstream={"on_disconnect": OnDisconnect.DRAIN}))
    platform.upstream.queue(Behaviour(events=EVENTS, event_delay_seconds=0.1), target=draining.model)
    async with await start(platform.server, draining) as call:
        await call.read_events(1)
    record = await asyncio.to_thread(platform.settle_one, draining)
    assert (record.status, record.source, record.output_tokens) == (UsageStatus.COMPLETED, UsageSource.PROVIDER, EVENTS)

    async def is_forgotten() -> bool:
        return (await ask_stream(platform.server, draining, record.request_id)).status == 404

    async with asyncio.timeout(20):
        while not await is_forgotten():
            pass


async def test_of_a_long_stream_the_oldest_events_go_and_it_is_said(hasty_platform: Platform) -> None:
    platform = hasty_platform
    caller = platform.make_caller()
    platform.upstream.queue(Behaviour(events=60, hold_at=50), target=caller.model)
    async with await start(platform.server, caller) as call:
        await call.read_events(50)
        stream_id = id_of(call)
        gone = await ask_stream(platform.server, caller, stream_id, after=3)
        assert (gone.status, gone.error["code"]) == (410, "stream_events_gone")
        first_kept = gone.error["details"]["first_kept"]
        assert 3 < first_kept <= 50
        async with await go_on(platform.server, caller, stream_id, after=first_kept - 1) as second:
            await second.read_events(1)
            await asyncio.to_thread(platform.release)
            # Neither of those who read along notices anything.
            assert b"data: [DONE]" in await call.read_answer()
            assert b"data: [DONE]" in await second.read_answer()


# ---- prompts and flags


async def test_a_prompt_run_goes_on_with_its_own_events(platform: Platform, caller: Caller) -> None:
    name = f"resumed-{caller.key_id}"
    platform.run(prompting.make_released, name, prompting.text_content(model=caller.model))
    url, body = f"{platform.server.base_url}/prompts/{name}/runs", {"inputs": {"name": "Ada"}, "stream": True}
    async with (
        open_client() as client,
        client.post(url, json=body, headers=caller.headers | RESUMABLE) as response,
    ):
        whole, stream_id = await response.read(), response.headers["x-stream-id"]
    rest = await ask_stream(platform.server, caller, stream_id, after=0)
    assert rest.raw == whole.partition(b"\n\n")[2]
    assert b"event: done" in rest.raw
    only_chat = replace(
        caller,
        token=platform.run(
            lambda: make_key(Customer.objects.get(pk=caller.customer_id), allowed_prompts=["another"]).token
        ),
    )
    assert (await ask_stream(platform.server, only_chat, stream_id)).status == 404


async def test_a_flag_keeps_every_stream_of_a_customer_until_it_is_ended(platform: Platform, caller: Caller) -> None:
    customer = platform.run(lambda: Customer.objects.get(pk=caller.customer_id))
    rule = platform.run(set_feature, feature="resumable_streams", is_on=True, owner=customer, reason="for a test")
    kept = await ask(platform.server, caller, stream=True)
    assert "x-stream-id" in kept.headers
    declined = await ask(platform.server, caller, stream=True, headers={"x-resumable": "false"})
    assert "x-stream-id" not in declined.headers
    platform.run(end_feature_rule, rule_id=rule.pk, reason="for a test")
    assert "x-stream-id" not in (await ask(platform.server, caller, stream=True)).headers


# ---- on sockets


async def break_socket(platform: Platform, caller: Caller, *, read: int) -> list[JsonObject]:
    """Read so many messages of a held call, vanish, and return them."""
    platform.upstream.queue(Behaviour(events=EVENTS, hold_at=2), target=caller.model)
    async with open_socket(platform.server, caller) as socket:
        await socket.send({"type": "call", "id": "a", "resumable": True, "body": chat_body(caller)})
        seen = [await socket.receive() for _ in range(read)]
        await socket.leave()
    return seen


@pytest.mark.parametrize("read", [1, 2])
async def test_a_call_goes_on_on_another_socket_under_another_id(platform: Platform, caller: Caller, read: int) -> None:
    seen = await break_socket(platform, caller, read=read)
    assert (seen[0]["type"], seen[0]["resumable"]) == ("start", True)
    stream_id = seen[0]["request_id"]
    place = {"after": seen[-1]["seq"]} if read > 1 else {}
    async with open_socket(platform.server, caller) as socket:
        await socket.send({"type": "resume", "id": "b", "stream": stream_id, **place})
        await asyncio.to_thread(platform.release)
        rest = await socket.finish()
        # Once more, from the start, under the same id: it is free again.
        await socket.send({"type": "resume", "id": "b", "stream": stream_id})
        whole = await socket.finish()
    assert {message["id"] for message in (*rest, *whole)} == {"b"}
    assert whole[0]["type"] == "start"
    assert [message["seq"] for message in whole[1:]] == list(range(len(whole) - 1))
    assert whole[-1]["type"] == "done"
    assert rest == (whole[read:] if read > 1 else whole)
    await asyncio.to_thread(platform.settle_one, caller)


async def test_a_resumed_call_is_cancelled_by_its_new_id(platform: Platform, caller: Caller) -> None:
    (begun,) = await break_socket(platform, caller, read=1)
    async with open_socket(platform.server, caller) as socket:
        await socket.send({"type": "resume", "id": "b", "stream": begun["request_id"]})
        assert (await socket.receive())["type"] == "start"
        await socket.send({"type": "cancel", "id": "b"})
        assert (await socket.finish())[-1]["error"]["code"] == "call_cancelled"
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert record.status == UsageStatus.CANCELLED


async def test_what_cannot_go_on_is_told_under_its_id_and_the_socket_stays(platform: Platform, caller: Caller) -> None:
    over_http = (await ask(platform.server, caller, stream=True, headers=RESUMABLE)).headers["x-stream-id"]
    (begun,) = await break_socket(platform, caller, read=1)
    answer = await ask_stream(platform.server, caller, begun["request_id"])
    assert (answer.status, answer.error["code"]) == (409, "stream_of_other_form")
    async with open_socket(platform.server, caller) as socket:
        for message, code in (
            ({"stream": "req_unknown"}, "stream_not_found"),
            ({"stream": over_http}, "stream_of_other_form"),
            ({"stream": begun["request_id"], "after": "x"}, "stream_position_invalid"),
        ):
            await socket.send({"type": "resume", "id": "b", **message})
            refused = await socket.receive()
            assert (refused["type"], refused["id"], refused["error"]["code"]) == ("error", "b", code)
        await socket.call(caller, "b")
        assert (await socket.finish())[-1]["type"] == "done"
    await ask_stream(platform.server, caller, begun["request_id"], method="DELETE")
    await asyncio.to_thread(platform.wait_for_usage, caller, 3)


# ---- without its server


async def test_after_a_kill_in_one_process_the_stream_is_gone_and_its_hold_resolved(
    own_platform: Callable[..., Platform],
) -> None:
    platform = own_platform(REDIS_URL="")
    caller = platform.make_caller()
    stream_id = await break_off(platform, caller, read=2, hold_at=2)
    platform.kill()
    platform.upstream.reset()
    await asyncio.to_thread(platform.start)
    assert (await ask_stream(platform.server, caller, stream_id)).error["code"] == "stream_not_found"
    record = await asyncio.to_thread(platform.settle_one, caller)
    assert (record.request_id, record.status) == (stream_id, UsageStatus.LOST)

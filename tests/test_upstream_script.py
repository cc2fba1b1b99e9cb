"""The scripted upstream answers, holds, records and takes its script as it promises, over real sockets."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.upstream import (
    Behaviour,
    Cut,
    Inject,
    JsonObject,
    Outcome,
    ScriptedUpstream,
    ToolCall,
    answer_text,
    error,
    parse_behaviour,
    rate_limited,
    render_behaviour,
)
from tests.upstream.asking import ask, ask_stream, join_text, open_client, read_data, read_until_cut

ROOT = Path(__file__).parents[1]


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def client(upstream: ScriptedUpstream) -> AsyncIterator[aiohttp.ClientSession]:
    async with open_client(upstream) as session:
        yield session


async def test_a_plain_answer_is_the_same_every_time(upstream: ScriptedUpstream, client: aiohttp.ClientSession) -> None:
    async with ask(client, n=2) as response:
        answer = await response.json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == [answer_text(Behaviour())] * 2
    assert answer_text(Behaviour()) == "amber birch cedar delta "
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}
    (seen,) = upstream.wait_for_ends()
    assert seen.body is not None
    assert (seen.body["n"], seen.headers["content-type"]) == (2, "application/json")
    assert (seen.outcome, seen.events_sent) == (Outcome.COMPLETED, 1)


async def test_a_stream_carries_text_finish_reason_usage_and_done(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.queue(Behaviour(text="Grüße, 世界 😀", events=5))
    async with ask_stream(client) as response:
        *events, done = read_data(await response.text())
    parsed = [json.loads(event) for event in events]
    assert done == "[DONE]"
    assert join_text(events) == "Grüße, 世界 😀"
    assert parsed[0]["choices"][0]["delta"]["role"] == "assistant"
    assert parsed[-2]["choices"][0]["finish_reason"] == "stop"
    assert (parsed[-1]["choices"], parsed[-1]["usage"]["total_tokens"]) == ([], 8)
    assert [chunk["usage"] for chunk in parsed[:-1]] == [None] * 6
    assert upstream.wait_for_ends()[0].events_sent == 8


@pytest.mark.parametrize("point", ["head", "first_event", 2, "finish", "usage", "done", "end"])
async def test_a_held_answer_waits_for_its_release(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession, point: int | str
) -> None:
    upstream.queue(parse_behaviour({"hold_at": point}))

    async def read_answer() -> list[str]:
        async with ask_stream(client) as response:
            return read_data(await response.text())

    answer = asyncio.create_task(read_answer())
    (held,) = await asyncio.to_thread(upstream.wait_until_held)
    sent = {"head": 0, "first_event": 0, 2: 2, "finish": 4, "usage": 5, "done": 6, "end": 7}
    assert (held.events_sent, held.outcome) == (sent[point], Outcome.OPEN)
    assert not answer.done()
    assert upstream.release() == 1
    assert len(await answer) == 7


@pytest.mark.parametrize(
    "behaviour", [Behaviour(endless=True), Behaviour(hold_at=3), Behaviour(events=9, hold_at="end")]
)
async def test_a_client_that_leaves_is_noticed(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession, behaviour: Behaviour
) -> None:
    upstream.queue(behaviour)
    async with ask_stream(client) as response:
        for _ in range(3):
            await response.content.readuntil(b"\n\n")
        response.close()
    seen = await asyncio.to_thread(upstream.wait_for_disconnect)
    assert seen.events_sent >= 3
    assert upstream.release() == 0


async def test_concurrent_requests_share_a_queue_without_loss_and_leave_named_targets_alone(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.queue(*[error(503)] * 10)
    upstream.queue(rate_limited(), target="named")

    async def read_status(model: str) -> int:
        async with ask(client, model=model) as response:
            return response.status

    statuses = await asyncio.gather(*(read_status(model) for model in ["m", "named"] * 20))
    assert sorted(statuses[0::2]) == [200] * 10 + [503] * 10
    assert sorted(statuses[1::2]) == [200] * 19 + [429]
    assert upstream.count_queued() == 0


async def test_models_are_listed_and_scriptable_without_touching_the_queue(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.queue(error(500))
    async with client.get("models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["scripted-model"]
    upstream.queue(error(401), target="/v1/models")
    async with client.get("models") as response:
        assert response.status == 401
    assert (len(upstream.requests_to("/v1/models")), upstream.requests) == (2, ())
    assert upstream.count_queued() == 1


async def test_a_stopped_upstream_refuses_and_comes_back_at_its_address(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        async with ask(client):
            pass
    upstream.start()
    async with ask(client) as response:
        assert response.status == 200


async def test_stopping_breaks_off_what_is_held_and_blames_no_client(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.set_default(Behaviour(hold_at=1))
    async with ask_stream(client) as response:
        await asyncio.to_thread(upstream.wait_until_held)
        await asyncio.to_thread(upstream.stop)
        await read_until_cut(response)
    assert upstream.requests[0].outcome is Outcome.CUT


def test_a_taken_port_is_reported(upstream: ScriptedUpstream) -> None:
    with pytest.raises(OSError, match=r"address already in use"):
        ScriptedUpstream(port=upstream.port).start()


def test_waiting_in_vain_tells_what_was_seen(upstream: ScriptedUpstream) -> None:
    with pytest.raises(TimeoutError, match="have 0; seen: nothing"):
        upstream.wait_for_requests(1, timeout_seconds=0.01)


@pytest.mark.parametrize(
    "document",
    [
        {"evnts": 3},
        {"hold_at": "middle"},
        {"cut_at": -1},
        {"cut": "gently"},
        {"cut_inside": True},
        {"inject": [{"after": 1}]},
    ],
)
def test_a_mistyped_script_fails(document: JsonObject) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_behaviour(document)


def test_a_behaviour_survives_its_json_form() -> None:
    behaviour = Behaviour(
        tool_calls=(ToolCall(name="find"),),
        inject=(Inject(at=1, data="x"),),
        cut=Cut.RESET,
        reasoning=("a", "b"),
    )
    assert parse_behaviour(json.loads(json.dumps(render_behaviour(behaviour)))) == behaviour


async def test_a_process_of_its_own_is_scripted_by_file_and_over_http(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"queue": [{"status": 503}], "targets": {"held": {"default": {"hold_at": 1}}}}))
    command = [sys.executable, "-m", "tests.upstream", "--port", "0", "--script", str(script)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    base_url = (await process.stdout.readline()).decode().strip()
    try:
        async with aiohttp.ClientSession(f"{base_url}/") as client:
            async with ask(client) as response:
                assert response.status == 503
            async with client.post("/_script", json={"queue": [{"text": "hi"}]}) as response:
                assert await response.json() == {"queued": 1}
            async with client.post("/_script", json={"queue": [{"txt": "hi"}]}) as response:
                assert response.status == 400
            async with ask(client) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "hi"
            async with ask_stream(client, model="held") as response:
                async with client.get("/_held", params={"n": 1}) as held:
                    assert [seen["events_sent"] for seen in (await held.json())["requests"]] == [1]
                async with client.post("/_release") as released:
                    assert await released.json() == {"released": 1}
                assert "[DONE]" in await response.text()
            async with client.get("/_requests") as response:
                seen = (await response.json())["requests"]
                assert [request["outcome"] for request in seen] == ["completed"] * 3
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0

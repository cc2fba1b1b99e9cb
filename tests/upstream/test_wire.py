"""What the scripted upstream puts on the wire when it lies, breaks off or frames oddly."""

import json
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.upstream import (
    Behaviour,
    Cut,
    Outcome,
    ScriptedUpstream,
    ToolCall,
    UsagePlace,
    error,
    error_event,
    html_error,
    huge_event,
    invalid_body,
    invalid_event,
    make_usage,
    parse_behaviour,
    rate_limited,
    render_behaviour,
)
from tests.upstream.asking import ask, ask_stream, join_text, open_client, read_data, read_until_cut


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture
async def client(upstream: ScriptedUpstream) -> AsyncIterator[aiohttp.ClientSession]:
    async with open_client(upstream) as session:
        yield session


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (UsagePlace.OWN_EVENT, [None, None, None, 99]),
        (UsagePlace.LAST_CONTENT, [None, 99, None]),
        (UsagePlace.FINISH_EVENT, [None, None, 99]),
        (UsagePlace.EVERY_EVENT, [99, 99, 99]),
        (UsagePlace.NOWHERE, [None, None, None]),
    ],
)
async def test_usage_lies_where_it_is_told_to(
    upstream: ScriptedUpstream,
    client: aiohttp.ClientSession,
    place: UsagePlace,
    expected: list[int | None],
) -> None:
    usage = make_usage(prompt_tokens=90, completion_tokens=9, cached_tokens=80, reasoning_tokens=5)
    upstream.queue(Behaviour(events=2, usage=usage, usage_place=place))
    async with ask_stream(client) as response:
        events = [json.loads(event) for event in read_data(await response.text())[:-1]]
    assert [event["usage"] and event["usage"]["total_tokens"] for event in events] == expected


async def test_usage_is_left_out_of_a_stream_that_did_not_ask(client: aiohttp.ClientSession) -> None:
    async with ask(client, stream=True) as response:
        assert "usage" not in await response.text()


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_and_reasoning_come_on_script(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession, stream: bool
) -> None:
    upstream.queue(Behaviour(reasoning=("hmm",), tool_calls=(ToolCall(name="find", arguments='{"q":1}'),)))
    async with ask(client, stream=stream) as response:
        raw = await response.text()
    documents = [json.loads(event) for event in read_data(raw)[:-1]] if stream else [json.loads(raw)]
    choices = [choice for document in documents for choice in document["choices"]]
    parts = [choice.get("delta") or choice.get("message") or {} for choice in choices]
    functions = [tool["function"] for part in parts for tool in part.get("tool_calls", [])]
    assert "".join(function["arguments"] for function in functions) == '{"q":1}'
    assert functions[0]["name"] == "find"
    assert parts[0]["reasoning_content"] == "hmm"
    assert choices[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("behaviour", "head"),
    [
        (error(500), (500, "application/json", None)),
        (rate_limited(), (429, "application/json", None)),
        (rate_limited(retry_after="7"), (429, "application/json", "7")),
        (html_error(502), (502, "text/html", None)),
        (Behaviour(content_type="text/plain"), (200, "text/plain", None)),
    ],
)
async def test_heads_are_as_scripted(
    upstream: ScriptedUpstream,
    client: aiohttp.ClientSession,
    behaviour: Behaviour,
    head: tuple[int, str, str | None],
) -> None:
    upstream.queue(behaviour)
    async with ask_stream(client) as response:
        await response.read()
        assert (response.status, response.content_type, response.headers.get("retry-after")) == head


async def test_bodies_and_events_can_be_broken_json(upstream: ScriptedUpstream, client: aiohttp.ClientSession) -> None:
    upstream.queue(invalid_body(), invalid_event(after=2))
    async with ask(client) as response:
        with pytest.raises(json.JSONDecodeError):
            json.loads(await response.text())
    async with ask_stream(client) as response:
        events = read_data(await response.text())
    with pytest.raises(json.JSONDecodeError):
        json.loads(events[2])
    assert events[-1] == "[DONE]"


async def test_an_error_event_ends_a_stream_cleanly(upstream: ScriptedUpstream, client: aiohttp.ClientSession) -> None:
    upstream.queue(error_event(after=2))
    async with ask_stream(client) as response:
        events = read_data(await response.text())
    assert len(events) == 3
    assert json.loads(events[-1])["error"]["code"] == "server_error"
    assert upstream.wait_for_ends()[0].outcome is Outcome.CUT


async def test_a_stream_can_lack_its_endings(upstream: ScriptedUpstream, client: aiohttp.ClientSession) -> None:
    upstream.queue(Behaviour(events=2, finish_reason=None, done=False))
    async with ask(client, stream=True) as response:
        events = read_data(await response.text())
    assert len(events) == 2
    assert "stop" not in events[-1]


@pytest.mark.parametrize(
    "framing",
    [
        Behaviour(line_ending="\r\n"),
        Behaviour(comments=True),
        Behaviour(data_prefix="data:"),
        Behaviour(write_bytes=7),
        Behaviour(events_per_write=3),
    ],
)
async def test_framing_changes_the_bytes_but_not_the_events(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession, framing: Behaviour
) -> None:
    document = dict(render_behaviour(framing)) | {"text": "größer 😀", "events": 2}
    upstream.queue(parse_behaviour(document))
    async with ask(client, stream=True) as response:
        raw = (await response.read()).decode()
    assert (": scripted comment" in raw) is framing.comments
    assert ("\r\n" in raw) is (framing.line_ending == "\r\n")
    assert join_text(read_data(raw)[:-1]) == "größer 😀"
    assert upstream.wait_for_ends()[0].events_sent == 4


async def test_small_writes_split_characters_over_http_chunks(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.queue(Behaviour(text="😀", events=1, write_bytes=1))
    async with ask(client, stream=True) as response:
        chunks = [chunk async for chunk, _ in response.content.iter_chunks() if chunk]
    assert "😀".encode() in b"".join(chunks)
    assert {len(chunk) for chunk in chunks} == {1}


@pytest.mark.parametrize("cut", [Cut.CLOSE, Cut.RESET])
async def test_a_cut_before_the_head_breaks_the_connection(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession, cut: Cut
) -> None:
    upstream.set_default(Behaviour(cut_at="head", cut=cut))
    with pytest.raises(aiohttp.ClientConnectionError):
        async with ask_stream(client):
            pass
    assert upstream.wait_for_ends()[0].outcome is Outcome.CUT


async def test_cuts_fall_where_they_are_scripted(upstream: ScriptedUpstream, client: aiohttp.ClientSession) -> None:
    upstream.queue(
        Behaviour(cut_at="first_event"),
        Behaviour(cut_at=2),
        Behaviour(cut_at=2, cut_inside=True),
        Behaviour(cut_at="done"),
    )
    arrived = []
    for _ in range(4):
        async with ask_stream(client) as response:
            assert response.status == 200
            arrived.append(await read_until_cut(response))
    assert [raw.count(b"\n\n") for raw in arrived] == [0, 2, 2, 6]
    assert arrived[1].endswith(b"\n\n")
    assert b"[DONE]" not in arrived[3]
    assert b"data: {" in arrived[2].rpartition(b"\n\n")[2]
    ended = upstream.wait_for_ends(4)
    assert [(seen.outcome, seen.events_sent) for seen in ended] == [(Outcome.CUT, sent) for sent in (0, 2, 2, 6)]


@pytest.mark.parametrize("cut", list(Cut))
async def test_a_body_can_break_off_in_its_middle(
    upstream: ScriptedUpstream, client: aiohttp.ClientSession, cut: Cut
) -> None:
    upstream.queue(Behaviour(cut_at=0, cut_inside=True, cut=cut))
    async with ask(client) as response:
        await read_until_cut(response)


async def test_one_event_can_be_megabytes(upstream: ScriptedUpstream, client: aiohttp.ClientSession) -> None:
    upstream.queue(huge_event(megabytes=3))
    async with ask_stream(client) as response:
        assert len(await response.read()) > 3_000_000

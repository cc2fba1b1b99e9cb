"""Streams in Redis: written in order whatever happens on the way, and a reader elsewhere misses nothing unsaid."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from common.ids import make_id
from gateway.control import CallControl
from gateway.streams.buffer import KeptStream, StreamBounds
from gateway.streams.errors import StreamEventsGone, StreamNotFound, StreamsUnavailable
from gateway.streams.keeping import KeptStreams
from gateway.streams.mirror import MirrorReader, StreamMirror
from tests.gateway.streams.test_buffer import label

pytestmark = pytest.mark.services

_BOUNDS = StreamBounds(keep_seconds=5, away_seconds=60, buffer_bytes=100_000, total_bytes=10**6)


async def _make_mirror() -> AsyncIterator[StreamMirror]:
    mirror = StreamMirror(os.environ["REDIS_URL"], keep_seconds=5)
    yield mirror
    await mirror.close()


writer = pytest.fixture(_make_mirror)
reader = pytest.fixture(_make_mirror)


def open_stream(mirror: StreamMirror) -> KeptStream:
    named = replace(label(make_id("req")), process=mirror.process)
    return KeptStreams(_BOUNDS, mirror).open(named, CallControl())


async def attach(mirror: StreamMirror, stream: KeptStream, after: int = -1) -> MirrorReader:
    """Read along, as soon as the stream is in Redis."""
    while (found := await mirror.find(stream.label.request_id)) is None:
        pass
    return await mirror.attach(found, after)


async def read_all(mirror: StreamMirror, stream: KeptStream, after: int = -1) -> list[bytes]:
    async with asyncio.timeout(20):
        source = await attach(mirror, stream, after)
        frames: list[bytes] = []
        while entries := await source.read():
            frames += [entry.frame for entry in entries]
    return frames


async def test_what_is_written_here_is_read_there_while_it_grows(writer: StreamMirror, reader: StreamMirror) -> None:
    stream = open_stream(writer)
    await stream.append([b"0"])
    reading = asyncio.create_task(read_all(reader, stream))
    for number in range(1, 200):
        await stream.append([b"%d" % number])
        await asyncio.sleep(0)
    await stream.append([b"end"], is_last=True)
    assert await reading == [*(b"%d" % number for number in range(200)), b"end"]
    assert await read_all(reader, stream, after=198) == [b"199", b"end"]
    assert await read_all(reader, stream, after=200) == []


@pytest.mark.parametrize("has_arrived", [False, True])
async def test_a_fault_of_redis_loses_nothing_and_doubles_nothing(
    writer: StreamMirror, reader: StreamMirror, monkeypatch: pytest.MonkeyPatch, has_arrived: bool
) -> None:
    stream = open_stream(writer)
    pipeline = type(writer._redis.pipeline())
    execute, has_failed = pipeline.execute, asyncio.Event()

    async def fail_once(self: Any, *args: Any) -> Any:
        answer = await execute(self, *args) if has_arrived or has_failed.is_set() else None
        if not has_failed.is_set():
            has_failed.set()
            raise RedisConnectionError("gone")
        return answer

    monkeypatch.setattr(pipeline, "execute", fail_once)
    await stream.append([b"0", b"1"])
    await has_failed.wait()
    await stream.append([b"2"])
    await stream.append([b"end"], is_last=True)
    assert await read_all(reader, stream) == [b"0", b"1", b"2", b"end"]


async def test_a_gap_is_told_to_whoever_reads_along(writer: StreamMirror, reader: StreamMirror) -> None:
    stream = open_stream(writer)
    await stream.append([b"0"])
    async with asyncio.timeout(20):
        source = await attach(reader, stream)
        assert [entry.seq for entry in await source.read()] == [0]
        key = f"tollkeeper:stream:events:{stream.label.request_id}"
        await reader._redis.xadd(key, {"d": "late"}, id="9-0")
        with pytest.raises(StreamEventsGone):
            await source.read()


async def test_a_stream_that_is_removed_is_told_to_whoever_reads_along(
    writer: StreamMirror, reader: StreamMirror
) -> None:
    stream = open_stream(writer)
    await stream.append([b"0"])
    async with asyncio.timeout(20):
        source = await attach(reader, stream)
        await source.read()
        await reader.forget(stream.label.request_id)
        with pytest.raises(StreamNotFound):
            await source.read()


async def test_a_redis_that_does_not_answer_is_told_as_such() -> None:
    deaf = StreamMirror("redis://127.0.0.1:9/0", keep_seconds=5)
    with pytest.raises(StreamsUnavailable):
        await deaf.find("req_1")
    await deaf.close()

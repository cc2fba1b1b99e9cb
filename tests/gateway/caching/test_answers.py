"""Answers in process and in Redis: what one process keeps the others find, and a Redis that fails is none."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from gateway.caching.answers import AnswerCache
from gateway.caching.redis_store import RedisStore
from tests.gateway.caching.answers import SECOND_US, make_answer

KEY = os.urandom(32)
NOW = 10 * SECOND_US


def make_cache(redis_url: str = "") -> AnswerCache:
    # Patient where Redis answers: it is not the machine's load that is tested.
    return AnswerCache(memory_bytes=1_000_000, redis_url=redis_url, redis_wait_seconds=5)


async def find(cache: AnswerCache, within_seconds: int = 60) -> str | None:
    found = await cache.find(KEY, within_seconds=within_seconds, now_us=NOW)
    return None if found is None else found.upstream


async def test_alone_a_process_keeps_its_answers_to_itself() -> None:
    cache = make_cache()
    cache.keep(KEY, make_answer(), now_us=NOW)
    assert await find(cache) == "east"
    assert await find(cache, within_seconds=9) is None
    assert await find(make_cache()) is None


async def test_a_redis_that_does_not_answer_is_a_miss_and_is_left_alone_for_a_while() -> None:
    connections = 0

    async def be_silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await _reader.read()
        writer.close()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cache = AnswerCache(memory_bytes=1_000_000, redis_url=f"redis://127.0.0.1:{port}/0")
        assert [await find(cache) for _ in range(5)] == [None] * 5
        # Its own process still has what it kept.
        cache.keep(KEY, make_answer(), now_us=NOW)
        assert await find(cache) == "east"
        await cache.close()
    assert connections == 1


async def test_a_redis_that_is_gone_is_a_miss() -> None:
    cache = make_cache("redis://127.0.0.1:1/0")
    assert await find(cache) is None
    cache.keep(KEY, make_answer(), now_us=NOW)
    await cache.close()


@pytest.fixture
async def redis_url() -> AsyncIterator[str]:
    url = os.environ["REDIS_URL"]
    yield url
    async with redis.Redis.from_url(url) as client:
        await client.delete(b"tollkeeper:answer:" + KEY)


@pytest.mark.services
async def test_what_one_process_keeps_the_others_find_as_long_as_it_lasts(redis_url: str) -> None:
    first, second = make_cache(redis_url), make_cache(redis_url)
    first.keep(KEY, make_answer(), now_us=NOW)
    await first.close()
    assert await find(second) == "east"
    store = RedisStore(redis_url, wait_seconds=5)
    found = await store.find(KEY)
    assert found == make_answer()
    # A younger one replaces it, also for who still has the old one.
    younger = make_answer(upstream="west", stored_us=9 * SECOND_US)
    third = make_cache(redis_url)
    third.keep(KEY, younger, now_us=NOW)
    await third.close()
    assert await find(second, within_seconds=5) == "west"
    async with redis.Redis.from_url(redis_url) as client:
        assert 0 < await client.pttl(b"tollkeeper:answer:" + KEY) <= 60_000
    await second.close()
    await store.close()

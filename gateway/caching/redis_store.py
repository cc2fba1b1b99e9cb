"""Answers that all processes share, in Redis. It may be slow, full or gone: then there is no answer, and no error.

Whatever Redis does, a call waits for it a twentieth of a second at most; after a fault it is not asked for a while.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import redis.asyncio as redis
from redis.exceptions import MaxConnectionsError, RedisError

from gateway.caching.entries import CachedAnswer, pack_answer, unpack_answer

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PREFIX = b"tollkeeper:answer:"
_REST_SECONDS = 5.0
_MOST_CONNECTIONS = 32
# Answers on their way to Redis; beyond it the next ones stay in this process alone.
_MOST_WRITES = 16


class RedisStore:
    """Belongs to one event loop."""

    def __init__(self, url: str, *, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._client = redis.Redis.from_url(
            url,
            max_connections=_MOST_CONNECTIONS,
            socket_connect_timeout=wait_seconds,
            socket_timeout=wait_seconds,
            # A second try would double what a call waits.
            retry=None,
        )
        self._resting_until = 0.0
        self._writes: set[asyncio.Task[None]] = set()

    async def find(self, key: bytes) -> CachedAnswer | None:
        """Return the answer under a key; None also when Redis does not say in time."""
        packed = await self._ask(lambda: self._client.get(_PREFIX + key))
        return unpack_answer(packed) if isinstance(packed, bytes) else None

    def keep(self, key: bytes, answer: CachedAnswer, now_us: int) -> None:
        """Send an answer to Redis, which drops it when its time is over. Nobody waits for it."""
        if len(self._writes) >= _MOST_WRITES or monotonic() < self._resting_until:
            return
        task = asyncio.create_task(self._write(key, answer, max(1, (answer.keep_until_us - now_us) // 1_000)))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Let the writes end, and close the connections."""
        await asyncio.gather(*self._writes)
        await self._client.aclose()

    async def _write(self, key: bytes, answer: CachedAnswer, keep_ms: int) -> None:
        await self._ask(lambda: self._client.set(_PREFIX + key, pack_answer(answer), px=keep_ms))

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T | None:
        if monotonic() < self._resting_until:
            return None
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await question()
        except MaxConnectionsError:
            # Many ask at once, and Redis is well.
            return None
        except (RedisError, OSError, TimeoutError) as error:
            self._resting_until = monotonic() + _REST_SECONDS
            logger.warning("response cache: Redis failed, not asked for %s s: %r", _REST_SECONDS, error)
            return None

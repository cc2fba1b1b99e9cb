"""Where answers are kept: in this process, and where REDIS_URL is set in Redis too, for all processes.

What came from Redis is kept here as well: a second hit costs no round trip. An answer under a key never becomes wrong
(see `gateway.caching.keys`), only old, and every reader says how old it may be.
"""

from typing import TYPE_CHECKING

from gateway.caching.entries import MAX_CACHED_BYTES, CachedAnswer
from gateway.caching.memory import AnswerMemory

if TYPE_CHECKING:
    # With it comes the client of Redis, which a server without Redis does not load.
    from gateway.caching.redis_store import RedisStore

# How long a call waits for Redis at most.
REDIS_WAIT_SECONDS = 0.05


class AnswerCache:
    """Belongs to one event loop; `redis_url` is empty where one process is alone."""

    def __init__(self, *, memory_bytes: int, redis_url: str, redis_wait_seconds: float = REDIS_WAIT_SECONDS) -> None:
        self._memory = AnswerMemory(limit_bytes=memory_bytes)
        self._redis = _open_store(redis_url, redis_wait_seconds) if redis_url else None

    async def find(self, key: bytes, *, within_seconds: int, now_us: int) -> CachedAnswer | None:
        """Return the answer under a key if it is not older than so many seconds."""
        answer = self._memory.find(key, now_us)
        if self._redis is not None and (answer is None or not answer.is_fresh(now_us, within_seconds)):
            # Another process may have a younger one.
            answer = await self._redis.find(key)
            if answer is not None:
                self._memory.keep(key, answer)
        return answer if answer is not None and answer.is_fresh(now_us, within_seconds) else None

    def find_here(self, key: bytes, *, within_seconds: int, now_us: int) -> CachedAnswer | None:
        """Return the answer under a key as far as this process knows it."""
        answer = self._memory.find(key, now_us)
        return answer if answer is not None and answer.is_fresh(now_us, within_seconds) else None

    def keep(self, key: bytes, answer: CachedAnswer, *, now_us: int) -> None:
        """Keep an answer, unless it is too large."""
        if len(answer.body) > MAX_CACHED_BYTES:
            return
        self._memory.keep(key, answer)
        if self._redis is not None:
            self._redis.keep(key, answer, now_us)

    async def close(self) -> None:
        """Let go of Redis."""
        if self._redis is not None:
            await self._redis.close()


def _open_store(url: str, wait_seconds: float) -> "RedisStore":
    from gateway.caching.redis_store import RedisStore  # noqa: PLC0415 - see above

    return RedisStore(url, wait_seconds=wait_seconds)

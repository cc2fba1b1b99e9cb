"""Gathering the pieces of a stream: a few tokens, or what came in 20 ms, go out as one.

The first two pieces go at once: nobody waits for a first token, which many upstreams put behind a piece of its own
for the role.
"""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.flight import Chunk
from gateway.streams.pulse import Pulse

# Upstreams send a token a chunk.
GATHERED_CHUNKS = 4
_AT_ONCE = 2

_flushing: set[asyncio.Task[None]] = set()


class Gathering:
    """The pieces of one stream that wait to be sent, in order."""

    def __init__(self, pulse: Pulse, send: Callable[[list[Chunk]], Awaitable[None]]) -> None:
        self._pulse = pulse
        self._send = send
        self._chunks: list[Chunk] = []
        self._at_once = _AT_ONCE
        # One sends at a time: the call's own task and the pulse would overtake each other where a client reads slowly.
        self._sending = asyncio.Lock()

    async def add(self, chunks: list[Chunk]) -> None:
        """Take pieces in; waits for the client where enough has been gathered."""
        self._chunks += chunks
        self._at_once -= 1
        if self._at_once >= 0 or len(self._chunks) >= GATHERED_CHUNKS:
            await self.flush()
        else:
            self._pulse.join(self)

    async def flush(self) -> None:
        """Send all that waits."""
        async with self._sending:
            while self._chunks:
                chunks = self._chunks[:GATHERED_CHUNKS]
                del self._chunks[:GATHERED_CHUNKS]
                await self._send(chunks)

    def drop(self) -> None:
        """Forget what waits."""
        self._chunks.clear()

    def beat(self) -> None:
        """Send what waits, beside the call's own task."""
        if self._chunks and not self._sending.locked():
            task = asyncio.create_task(self.flush())
            _flushing.add(task)
            task.add_done_callback(_flushing.discard)

"""Calls to upstreams that several callers wait for: the same call of the same customer, while it is in flight.

The call itself is nobody's: it has a task and a control of its own, so that a caller who leaves takes nothing from
the others. Its members are in the order in which they came. The first of those who are there at its end is its payer,
whose hold it is settled against; the others pay for a reused answer. Each process shares for itself: two processes may
ask the same at the same time, once each.
"""

import asyncio
from typing import Any

from common.errors import TollkeeperError
from gateway.caching.entries import CachedAnswer
from gateway.calls import Exchange, Receipt
from gateway.control import CallStopped, StopReason
from gateway.flight import Chunk, Flight


class SharedCall:
    """One call and what it has brought so far; the sink of its own flight."""

    def __init__(self) -> None:
        self.flight: Flight
        self.task: asyncio.Task[None]
        self.members: list[Exchange] = []
        self.has_begun = False
        # As bytes: parsed they take thirty times the memory, and most calls have one member.
        self.chunks: list[bytes] = []
        # How often the model was asked once more, and the chunks began anew.
        self.restarts = 0
        self.is_done = False
        # Once it is done: the whole answer's body (None: a stream), or the error; and the answer as others may have it.
        self.body: bytes | None = None
        self.error: Exception | None = None
        self.cached: CachedAnswer | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def is_payer(self, exchange: Exchange) -> bool:
        """Return whether the call is settled against this member."""
        return self.members[0] is exchange

    def leave(self, exchange: Exchange) -> bool:
        """Take a member out that does not wait any longer; False: it is the last one, or the payer, and stays."""
        if len(self.members) == 1 or (self.is_done and self.is_payer(exchange)):
            return False
        self.members.remove(exchange)
        # What the call notes of its progress is kept with a hold that is open.
        self.flight.exchange.request_id = self.members[0].request_id
        return True

    async def wait(self) -> None:
        """Wait until there is more, or it is done."""
        if not self.is_done:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    async def wait_until_done(self) -> None:
        """Wait until it is done."""
        while not self.is_done:
            await self.wait()

    def end(self) -> None:
        """Tell everybody that it is done."""
        self.is_done = True
        if self.cached is None and self.error is None:
            self.error = CallStopped(StopReason.SERVER_STOPPING)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    # -- gateway.flight.Sink

    async def begin(self, exchange: Exchange) -> None:
        """Note that there is an answer: from here on no other deployment is tried."""
        self.has_begun = True

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Take chunks in. A member that reads slowly holds up nobody else."""
        self.chunks += [raw for raw, _ in chunks]
        self._wake()

    def begin_again(self) -> None:
        """Begin the chunks anew."""
        self.chunks = []
        self.restarts += 1
        self._wake()

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """Never asked for: each member is settled and answered for itself."""
        raise AssertionError("a shared call was finished")

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Never asked for: see `finish`."""
        raise AssertionError("a shared call was answered")

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Never asked for: see `finish`."""
        raise AssertionError("a shared call failed as if it had a client")

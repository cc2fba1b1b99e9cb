"""The events of one stream, kept for whoever comes back for them, within a bound.

One writes (the call), any number read, each at its own pace; the customer's first connection is a reader like those
that come later. Events are numbered without a gap. When the buffer is full, the oldest that every attached reader has
seen is dropped; where a reader has not seen it, the call waits for that reader, as a call that keeps nothing waits for
its client. With no reader at all, the call goes on for a while, and is then ended where that stops its bill.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from gateway.control import CallControl, StopReason
from gateway.streams.errors import StreamEventsGone

# What a reader is handed at once: a slow client is seen to stall within one such piece.
_PIECE_BYTES = 65_536
# What Python keeps for an event besides its bytes.
_ENTRY_BYTES = 150


class Form(StrEnum):
    """How the events are written down: ready for the wire, which differs."""

    EVENTS = "events"
    MESSAGES = "messages"


class Entry(NamedTuple):
    """One event with its number."""

    seq: int
    frame: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLabel:
    """Whose stream it is, what it carries, and where it runs."""

    request_id: str
    customer_id: int
    environment: str
    scope: str
    model: str
    # "" for chat completions.
    prompt: str
    form: Form
    # The number of the first event; on sockets `start` stands before number 0.
    first_seq: int
    # Which server process; see `gateway.streams.mirror`.
    process: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBounds:
    """How much is kept, and how long."""

    keep_seconds: float
    away_seconds: float
    buffer_bytes: int
    total_bytes: int


class Keeper(Protocol):
    """What a stream tells of itself: who keeps all of them."""

    def note_growth(self, stream: "KeptStream", size: int) -> None:
        """Take in that so many bytes were added, or (negative) dropped."""

    @property
    def is_full(self) -> bool:
        """Return whether all streams together hold more than they may."""


class EventSource(Protocol):
    """Where a reader's events come from: this process's buffer, or what another one has shared."""

    @property
    def is_through(self) -> bool:
        """Return whether nothing is left to read."""

    async def read(self) -> list[Entry]:
        """Return what follows, waiting for it; nothing once the stream has ended.

        Raises StreamEventsGone, or what became of the stream.
        """

    async def cancel(self) -> None:
        """End the call; what was produced is charged."""

    def close(self) -> None:
        """Read no further."""


class KeptStream:
    """One stream's events and readers. All methods belong to the event loop."""

    def __init__(self, label: StreamLabel, control: CallControl, bounds: StreamBounds, keeper: Keeper) -> None:
        self.label = label
        self.has_ended = False
        self._control = control
        self._bounds = bounds
        self._keeper = keeper
        self._entries: list[Entry] = []
        self._bytes = 0
        self._next_seq = label.first_seq
        self._readers: set[StreamReader] = set()
        # Set when a reader has moved on or left.
        self._has_moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._away_timer: asyncio.TimerHandle | None = None
        self._await_somebody()

    @property
    def first_kept(self) -> int:
        """Return the number of the oldest event that is still there, or of the next one."""
        return self._entries[0].seq if self._entries else self._next_seq

    @property
    def next_seq(self) -> int:
        """Return the number that the next event will have."""
        return self._next_seq

    @property
    def size_bytes(self) -> int:
        return self._bytes

    async def append(self, frames: Sequence[bytes], *, is_last: bool = False) -> None:
        """Add events; returns when there is room for more. Being cancelled while it waits loses none of them."""
        added = 0
        for frame in frames:
            self._entries.append(Entry(self._next_seq, frame))
            self._next_seq += 1
            added += len(frame) + _ENTRY_BYTES
        self._bytes += added
        if is_last:
            self.end()
        self._wake_readers()
        self._keeper.note_growth(self, added)
        while self._is_over and not is_last and not self._drop_seen():
            self._has_moved.clear()
            await self._has_moved.wait()

    def end(self) -> None:
        """Note that nothing follows; safe to repeat."""
        if not self.has_ended:
            self.has_ended = True
            self._stop_timer()
            self._wake_readers()
            self._keeper.note_growth(self, 0)

    def attach(self, after: int) -> "StreamReader":
        """Return a reader of what follows event `after`. Raises StreamEventsGone where that has been dropped."""
        reader = StreamReader(self, max(after + 1, self.label.first_seq))
        if reader.position < self.first_kept:
            raise StreamEventsGone(first_kept=self.first_kept)
        self._readers.add(reader)
        self._stop_timer()
        return reader

    def detach(self, reader: "StreamReader") -> None:
        """Forget a reader; safe to repeat."""
        self._readers.discard(reader)
        self._has_moved.set()
        if not self._readers:
            self._await_somebody()

    def touch(self) -> None:
        """Note that somebody reads along on another process."""
        if not self._readers:
            self._await_somebody()

    def cancel(self) -> None:
        """End the call; what was produced is charged."""
        self._control.stop(StopReason.CLIENT_CANCELLED)

    def entries_from(self, seq: int, *, most_bytes: int) -> list[Entry]:
        """Return the events from number `seq` on, at least one where there is one, about `most_bytes` of them.

        Raises StreamEventsGone where they have been dropped.
        """
        if seq < self.first_kept:
            raise StreamEventsGone(first_kept=self.first_kept)
        start = seq - self.first_kept
        found: list[Entry] = []
        size = 0
        for entry in self._entries[start : start + most_bytes // 100]:
            found.append(entry)
            size += len(entry.frame)
            if size >= most_bytes:
                break
        return found

    def note_moved(self) -> None:
        """Note that a reader has seen more."""
        self._has_moved.set()

    @property
    def _is_over(self) -> bool:
        return self._bytes > self._bounds.buffer_bytes or self._keeper.is_full

    def _drop_seen(self) -> bool:
        """Drop the oldest events that every reader has, as many as it takes; return whether it was enough."""
        needed = min((reader.position for reader in self._readers), default=self._next_seq)
        count = dropped = 0
        excess = self._bytes - self._bounds.buffer_bytes
        # With all streams together over their bound, this one gives a quarter of what it holds.
        wanted = max(excess, self._bytes // 4) if self._keeper.is_full else excess
        for entry in self._entries:
            if dropped >= wanted or entry.seq >= needed:
                break
            dropped += len(entry.frame) + _ENTRY_BYTES
            count += 1
        del self._entries[:count]
        self._bytes -= dropped
        self._keeper.note_growth(self, -dropped)
        return dropped >= wanted

    def _wake_readers(self) -> None:
        for reader in self._readers:
            reader.wake()

    def _await_somebody(self) -> None:
        self._stop_timer()
        if not self.has_ended:
            self._away_timer = self._loop.call_later(self._bounds.away_seconds, self._nobody_came)

    def _nobody_came(self) -> None:
        # An upstream that bills a broken-off call whole is read to its end: the events are paid for.
        if self._control.stops_when_client_leaves:
            self._control.stop(StopReason.CLIENT_LEFT)

    def _stop_timer(self) -> None:
        if self._away_timer is not None:
            self._away_timer.cancel()
            self._away_timer = None


class StreamReader:
    """One reader's place in a stream of this process; `position` is the number of the event that it wants next."""

    def __init__(self, stream: KeptStream, position: int) -> None:
        self.position = position
        self._stream = stream
        self._has_news = asyncio.Event()

    @property
    def is_through(self) -> bool:
        """Return whether nothing is left to read."""
        return self._stream.has_ended and self.position >= self._stream.next_seq

    async def read(self) -> list[Entry]:
        """Return what follows, waiting for it; nothing once the stream has ended.

        What is returned counts as seen at the next call. Raises StreamEventsGone.
        """
        self._stream.note_moved()
        while True:
            self._has_news.clear()
            found = self._stream.entries_from(self.position, most_bytes=_PIECE_BYTES)
            if found:
                self.position = found[-1].seq + 1
                return found
            if self._stream.has_ended:
                return []
            await self._has_news.wait()

    def wake(self) -> None:
        """Let it look for more."""
        self._has_news.set()

    async def cancel(self) -> None:
        """End the call; what was produced is charged."""
        self._stream.cancel()

    def close(self) -> None:
        """Read no further."""
        self._stream.detach(self)

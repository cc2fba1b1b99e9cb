"""Kept streams in Redis, so that any process can go on with a stream that runs, or ran, on another one.

A stream is a Redis stream whose entries have the numbers of the events, and a label beside it. The process that carries
the call writes both, in the background: Redis can slow down or lose no call, only the sharing of its events. A reader
that finds a gap, or that the writer has died, says so instead of going on. Orders (cancel; somebody reads along) go to
the writer through a list of its own, which it waits at; while it does, a key says that it lives.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.ids import make_id
from gateway.errors import ServerDraining
from gateway.streams.buffer import Entry, Form, KeptStream, StreamLabel
from gateway.streams.errors import StreamEventsGone, StreamLost, StreamNotFound, StreamsUnavailable

logger = logging.getLogger(__name__)

_PREFIX = "tollkeeper:stream"
# A process counts as dead when it has not said for so long that it lives; it says so every two seconds.
_ALIVE_SECONDS = 6
_BEAT_SECONDS = 2
# Of a stream that runs: it may be quiet for as long as an upstream may.
_RUNNING_SECONDS = 900
_LOOK_EVERY_MS = 1_000
# Between looks for a stream that is not there (yet).
_PAUSES = (0.05, 0.15, 0.3)
_RETRY_SECONDS = 0.5
_READ_AT_ONCE = 64
_WRITE_BYTES = 262_144
# Each reader of another process's stream waits on a connection of its own.
_MOST_CONNECTIONS = 200
# Numbers of entries are above 0, numbers of events begin at -1.
_OFFSET = 2
_FAULTS = (RedisError, OSError, TimeoutError)


class Owner(Protocol):
    """Who keeps the streams that orders are about."""

    def find_own(self, request_id: str) -> KeptStream | None:
        """Return a stream of this process."""


class StreamMirror:
    """One process's share in the streams of all."""

    def __init__(self, url: str, *, keep_seconds: float) -> None:
        self.process = make_id("proc")
        self.owner: Owner
        # This process goes away: whoever reads other processes' streams here is to ask another one.
        self.is_draining = False
        self._keep_seconds = max(1, round(keep_seconds))
        self._redis = _connect(url, most_connections=4)
        # Apart: however many read, the streams of this process are written.
        self._readers = _connect(url, most_connections=_MOST_CONNECTIONS)
        self._dirty: dict[str, KeptStream] = {}
        # The number of the next event to write; None: a fault has left it unknown.
        self._places: dict[str, int | None] = {}
        self._has_work = asyncio.Event()
        self._is_closing = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._tasks: list[asyncio.Task[None]] = []

    # -- the streams of this process

    def note(self, stream: KeptStream) -> None:
        """Write what is new of a stream, soon."""
        self._dirty[stream.label.request_id] = stream
        self._is_idle.clear()
        self._has_work.set()
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._keep_writing(), name="streams to Redis"),
                asyncio.create_task(self._keep_listening(), name="orders for streams"),
            ]

    async def close(self) -> None:
        """Write what is left, within a bound, and disconnect."""
        try:
            async with asyncio.timeout(_RETRY_SECONDS * 2):
                await self._is_idle.wait()
        except TimeoutError:
            logger.warning("stopping: the last events of %s streams are not in Redis", len(self._dirty))
        # The client may answer a cancellation with a fault of its connection; the tasks end all the same.
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_BEAT_SECONDS)
        await self._redis.aclose()
        await self._readers.aclose()

    async def _keep_writing(self) -> None:
        is_failing = False
        while not self._is_closing:
            await self._has_work.wait()
            self._has_work.clear()
            streams, self._dirty = self._dirty, {}
            try:
                for stream in streams.values():
                    await self._write(stream)
                is_failing = False
            except _FAULTS as fault:
                if not is_failing:
                    logger.warning("streams cannot be shared, Redis fails: %s", fault)
                is_failing = True
                for request_id, stream in streams.items():
                    # What has arrived nobody knows, of a first write neither: Redis is asked.
                    self._places[request_id] = None
                    self._dirty.setdefault(request_id, stream)
                self._has_work.set()
                await asyncio.sleep(_RETRY_SECONDS)
            if not self._dirty:
                self._is_idle.set()

    async def _write(self, stream: KeptStream) -> None:
        request_id = stream.label.request_id
        key = _events_key(request_id)
        place = self._places.get(request_id, stream.label.first_seq)
        if place is None:
            last: Any = await self._redis.xrevrange(key, count=1)
            place = _number_of(last[0][0]) + 1 if last else stream.first_kept
        while True:
            entries = stream.entries_from(max(place, stream.first_kept), most_bytes=_WRITE_BYTES)
            has_ended = stream.has_ended and (not entries or entries[-1].seq == stream.next_seq - 1)
            seconds = self._keep_seconds if has_ended else _RUNNING_SECONDS
            async with self._redis.pipeline(transaction=False) as opened:
                pipe: Any = opened  # its commands are typed as if each had to be awaited
                if place == stream.label.first_seq:
                    pipe.set(_alive_key(self.process), b"1", ex=_ALIVE_SECONDS)
                for entry in entries:
                    is_last = has_ended and entry.seq == stream.next_seq - 1
                    fields = {b"d": entry.frame, b"e": b"1"} if is_last else {b"d": entry.frame}
                    pipe.xadd(key, fields, id=f"{entry.seq + _OFFSET}-0")
                if stream.first_kept > stream.label.first_seq:
                    pipe.xtrim(key, minid=f"{stream.first_kept + _OFFSET}-0", approximate=False)
                # After the events: whoever reads the label finds the stream.
                pipe.set(_label_key(request_id), _write_label(stream.label, has_ended=has_ended), ex=seconds)
                pipe.expire(key, seconds)
                await pipe.execute()
            if entries:
                place = entries[-1].seq + 1
            self._places[request_id] = place
            if has_ended:
                del self._places[request_id]
            if has_ended or place >= stream.next_seq:
                return

    async def _keep_listening(self) -> None:
        while not self._is_closing:
            try:
                await self._redis.set(_alive_key(self.process), b"1", ex=_ALIVE_SECONDS)
                found = await cast(
                    "Awaitable[list[bytes] | None]", self._redis.blpop([_orders_key(self.process)], _BEAT_SECONDS)
                )
                if found is not None:
                    self._obey(orjson.loads(found[1]))
            except _FAULTS:
                await asyncio.sleep(_RETRY_SECONDS)

    def _obey(self, order: dict[str, str]) -> None:
        stream = self.owner.find_own(order["stream"])
        if stream is None:
            return
        if order["do"] == "cancel":
            stream.cancel()
        else:
            stream.touch()

    # -- the streams of others

    async def find(self, request_id: str) -> "SharedStream | None":
        """Return what is known of a stream. Raises StreamsUnavailable.

        Who comes back at once may be here before the stream's process has written it: it is looked for a moment.
        """
        for pause in (*_PAUSES, None):
            found = await _ask(self._readers.get(_label_key(request_id)))
            if found is not None:
                return _read_label(found)
            if pause is not None:
                await asyncio.sleep(pause)
        return None

    async def is_alive(self, process: str) -> bool:
        """Return whether a process has said lately that it lives. Raises StreamsUnavailable."""
        return bool(await _ask(self._readers.exists(_alive_key(process))))

    async def attach(self, found: "SharedStream", after: int) -> "MirrorReader":
        """Return a reader of what follows event `after`. Raises StreamEventsGone or StreamsUnavailable."""
        position = max(after + 1, found.label.first_seq)
        key = _events_key(found.label.request_id)
        first = await _ask(self._readers.xrange(key, count=1))
        first_kept = _number_of(first[0][0]) if first else found.label.first_seq
        if position < first_kept:
            raise StreamEventsGone(first_kept=first_kept)
        last = await _ask(self._readers.xrevrange(key, count=1)) if found.has_ended else []
        is_through = found.has_ended and (not last or _number_of(last[0][0]) < position)
        return MirrorReader(self, found, position, is_through=is_through)

    async def order_cancel(self, label: StreamLabel) -> None:
        """Have the process of a stream end its call. Raises StreamsUnavailable."""
        await self._order(label, "cancel")

    async def touch(self, label: StreamLabel) -> None:
        """Let the process of a stream know that somebody reads it. Raises StreamsUnavailable."""
        await self._order(label, "touch")

    async def forget(self, request_id: str) -> None:
        """Remove a stream. Raises StreamsUnavailable."""
        await _ask(self._readers.delete(_label_key(request_id), _events_key(request_id)))

    async def read_entries(self, label: StreamLabel, position: int, *, may_wait: bool) -> tuple[list[Entry], bool]:
        """Return events from `position` on, and whether the last of them is the stream's last.

        Raises StreamsUnavailable.
        """
        key = _events_key(label.request_id)
        block = _LOOK_EVERY_MS if may_wait else None
        found = await _ask(self._readers.xread({key: f"{position - 1 + _OFFSET}-0"}, count=_READ_AT_ONCE, block=block))
        if not found:
            return [], False
        rows = found[0][1]
        return [Entry(_number_of(number), fields[b"d"]) for number, fields in rows], b"e" in rows[-1][1]

    async def _order(self, label: StreamLabel, what: str) -> None:
        key = _orders_key(label.process)
        async with self._readers.pipeline(transaction=False) as opened:
            pipe: Any = opened
            pipe.rpush(key, orjson.dumps({"do": what, "stream": label.request_id}))
            pipe.expire(key, _ALIVE_SECONDS * 10)
            await _ask(pipe.execute())


class SharedStream(NamedTuple):
    """What Redis says of a stream."""

    label: StreamLabel
    has_ended: bool


class MirrorReader:
    """One reader's place in a stream of another process."""

    def __init__(self, mirror: StreamMirror, found: SharedStream, position: int, *, is_through: bool) -> None:
        self._mirror = mirror
        self._label = found.label
        self._position = position
        self._has_ended = found.has_ended
        self.is_through = is_through

    async def read(self) -> list[Entry]:
        """Return what follows, waiting for it; nothing once the stream has ended.

        Raises StreamEventsGone for a gap, StreamLost when the process that carried the stream has died,
        StreamNotFound when the stream was removed meanwhile, ServerDraining, StreamsUnavailable.
        """
        while not self.is_through:
            if self._mirror.is_draining:
                raise ServerDraining
            entries, self.is_through = await self._mirror.read_entries(
                self._label, self._position, may_wait=not self._has_ended
            )
            if entries and entries[0].seq != self._position:
                raise StreamEventsGone(first_kept=entries[0].seq)
            if entries:
                self._position = entries[-1].seq + 1
                return entries
            # Once it has ended, one more look: the last events may have come between the two questions.
            self.is_through = self._has_ended
            if not self._has_ended:
                await self._look_after()
        return []

    async def _look_after(self) -> None:
        found = await self._mirror.find(self._label.request_id)
        if found is None:
            raise StreamNotFound
        self._has_ended = found.has_ended
        if found.has_ended:
            return
        if not await self._mirror.is_alive(self._label.process):
            raise StreamLost
        await self._mirror.touch(self._label)

    async def cancel(self) -> None:
        """End the call; what was produced is charged."""
        await self._mirror.order_cancel(self._label)

    def close(self) -> None:
        """Read no further, also where the client of Redis answers a cancellation with a fault."""
        self.is_through = True


def _events_key(request_id: str) -> str:
    return f"{_PREFIX}:events:{request_id}"


def _label_key(request_id: str) -> str:
    return f"{_PREFIX}:label:{request_id}"


def _orders_key(process: str) -> str:
    return f"{_PREFIX}:orders:{process}"


def _alive_key(process: str) -> str:
    return f"{_PREFIX}:alive:{process}"


def _number_of(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0]) - _OFFSET


def _write_label(label: StreamLabel, *, has_ended: bool) -> bytes:
    return orjson.dumps({**asdict(label), "has_ended": has_ended})


def _read_label(raw: bytes) -> SharedStream:
    fields = orjson.loads(raw)
    has_ended = fields.pop("has_ended")
    return SharedStream(StreamLabel(**{**fields, "form": Form(fields["form"])}), has_ended)


def _connect(url: str, *, most_connections: int) -> Redis:
    # RESP2: answers are lists, whatever the server speaks by default.
    return Redis.from_url(url, socket_connect_timeout=2, socket_timeout=5, max_connections=most_connections, protocol=2)


async def _ask(answer: Any) -> Any:
    try:
        return await answer
    except _FAULTS as fault:
        raise StreamsUnavailable(internal_detail=repr(fault)) from fault

"""How an answer goes over the wire: framing, pace, holds and cuts of one response.

The order at each point of an answer is: hold, wait, cut, send. What is buffered for `events_per_write` is
flushed before a point that holds or cuts, so that "after k events" is true on the wire.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import NoReturn

from aiohttp import web

from tests.upstream.answers import Event, EventKind
from tests.upstream.behaviours import Behaviour, Cut, Point
from tests.upstream.journal import Journal, Outcome

# l_onoff = 1, l_linger = 0: closing sends RST instead of FIN (socket(7)).
LINGER_RESET = struct.pack("ii", 1, 0)


class _SeveredError(Exception):
    """The script has broken the answer off; `play` ends here."""


def frame_event(event: Event, behaviour: Behaviour) -> bytes:
    """Encode an event as SSE (WHATWG HTML, section 9.2); a plain body is only encoded."""
    if event.kind is EventKind.BODY:
        return event.data.encode()
    end = behaviour.line_ending
    lines = [": scripted comment", ""] if behaviour.comments else []
    if event.name is not None:
        lines.append(f"event: {event.name}")
    lines.extend(f"{behaviour.data_prefix}{line}" for line in event.data.split("\n"))
    return (end.join(lines) + end + end).encode()


def split_writes(data: bytes, write_bytes: int | None) -> list[bytes]:
    """Cut bytes into the pieces to be written one by one."""
    size = write_bytes or len(data) or 1
    return [data[start : start + size] for start in range(0, len(data), size)] or [b""]


def is_before(point: Point | None, *, index: int, event: Event) -> bool:
    """Tell whether a point stands right before this event of an answer."""
    if isinstance(point, int):
        return point == index
    return point == event.kind or (point == "first_event" and index == 0)


class Delivery:
    """The answer to one request, played once."""

    def __init__(self, *, request: web.Request, number: int, behaviour: Behaviour, journal: Journal) -> None:
        self._request = request
        self._number = number
        self._behaviour = behaviour
        self._journal = journal
        self._pending: list[bytes] = []
        # With several choices there are several finish events, and one hold.
        self._has_held = False

    async def play(self, response: web.StreamResponse, events: Iterable[Event]) -> web.StreamResponse:
        """Send head and events as scripted, and record how it ended."""
        try:
            await self._pass_point(response, "head", delay_seconds=self._behaviour.head_delay_seconds)
            await response.prepare(self._request)
            await self._send_events(response, events)
            # Recorded before the end of the body is sent: who has read a stream to its end finds it recorded.
            # And nothing yields between the last write and here, so that a client which closes on `[DONE]`,
            # or on the last byte of a body, never counts as one that left early.
            self._journal.end_request(self._number, Outcome.COMPLETED)
            await response.write_eof()
        except _SeveredError:
            self._journal.end_request(self._number, Outcome.CUT)
        except ConnectionError:
            # Not raised on: aiohttp finds out by itself, and would log this as a fault of the handler.
            self._journal.end_request(self._number, Outcome.DISCONNECTED)
        except asyncio.CancelledError:
            self._journal.end_request(self._number, Outcome.DISCONNECTED)
            raise
        return response

    async def _send_events(self, response: web.StreamResponse, events: Iterable[Event]) -> None:
        behaviour = self._behaviour
        delay_seconds = behaviour.first_event_delay_seconds
        for index, event in enumerate(events):
            data = frame_event(event, behaviour)
            holds = is_before(behaviour.hold_at, index=index, event=event)
            cuts = is_before(behaviour.cut_at, index=index, event=event)
            if holds or cuts:
                await self._flush(response)
            if holds:
                await self._hold()
            # Sleeping even for 0 seconds keeps an endless stream from starving the other requests.
            await asyncio.sleep(delay_seconds)
            if cuts:
                if behaviour.cut_inside:
                    await self._write(response, data[: len(data) // 2])
                self._sever(response)
            self._pending.append(data)
            if len(self._pending) >= behaviour.events_per_write:
                await self._flush(response)
            delay_seconds = behaviour.event_delay_seconds
        await self._flush(response)
        await self._pass_point(response, "end", delay_seconds=0)

    async def _pass_point(self, response: web.StreamResponse, point: Point, *, delay_seconds: float) -> None:
        if self._behaviour.hold_at == point:
            await self._hold()
        if delay_seconds:
            await asyncio.sleep(delay_seconds)
        if self._behaviour.cut_at == point:
            self._sever(response)

    async def _hold(self) -> None:
        if self._has_held:
            return
        self._has_held = True
        loop = asyncio.get_running_loop()
        released = asyncio.Event()

        def release() -> None:
            loop.call_soon_threadsafe(released.set)

        self._journal.hold(self._number, release)
        try:
            await released.wait()
        finally:
            self._journal.drop_hold(self._number)

    async def _flush(self, response: web.StreamResponse) -> None:
        if not self._pending:
            return
        data, count = b"".join(self._pending), len(self._pending)
        self._pending.clear()
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        # Counted before the bytes leave: whoever has read an event finds it counted.
        self._journal.count_events(self._number, count)
        await self._write(response, data)

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        first, *others = split_writes(data, self._behaviour.write_bytes)
        await response.write(first)
        for piece in others:
            await asyncio.sleep(0)
            await response.write(piece)

    def _sever(self, response: web.StreamResponse) -> NoReturn:
        if self._behaviour.cut is Cut.FINISH and response.prepared and response.chunked:
            # aiohttp ends the body when the handler returns.
            raise _SeveredError
        # Recorded first: closing makes aiohttp cancel this task, which would read as a disconnect.
        self._journal.end_request(self._number, Outcome.CUT)
        transport = self._request.transport
        if transport is not None and self._behaviour.cut is Cut.RESET:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            transport.abort()
        elif transport is not None:
            transport.close()
        raise _SeveredError

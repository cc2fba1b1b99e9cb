"""One connection to an upstream: a request is written, its answer is parsed as it comes.

A connection serves one exchange at a time; between two of them it is idle in the pool. The body is handed out as it
came off the wire, at most `_HIGH_WATER` bytes ahead of its reader.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

from gateway.upstreams.wire.errors import ClosedEarly, Cut, Malformed, WireError

_MAX_HEAD_BYTES = 65_536
_HIGH_WATER = 262_144
_FIRST_FINAL_STATUS = 200


class Origin(NamedTuple):
    """Where connections lead: those to one origin are alike."""

    scheme: str
    host: str
    port: int


class Connection(asyncio.Protocol):
    """HTTP/1.1 on one transport. Everything runs in the event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, origin: Origin, give_back: "Callable[[Connection], None]"
    ) -> None:
        self.origin = origin
        self._give_back = give_back
        self._loop = loop
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._is_lost = False
        # Closed by us, spoken to out of turn, or told to close after this answer.
        self._is_spent = False
        self.idle_since = 0.0

    @property
    def is_reusable(self) -> bool:
        """Return whether another request may be sent."""
        return not self._is_spent and not self._is_lost and self._answer is None and not self._transport.is_closing()

    def send(self, request: bytes) -> "Answer":
        """Write a request and return its answer, of which nothing is known yet."""
        assert self._answer is None
        answer = self._answer = Answer(self, self._loop)
        self._transport.write(request)
        return answer

    def close(self) -> None:
        """Hang up; what is buffered either way is lost."""
        self._is_spent = True
        self._transport.abort()

    def release(self) -> None:
        """Forget the answer and go back to the pool; without the answer's end, or told to close, hang up instead."""
        answer, self._answer = self._answer, None
        if answer is not None and answer.is_complete and self.is_reusable:
            self._give_back(self)
        else:
            self.close()

    def pause(self) -> None:
        """Stop reading until `resume`."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # Nothing was asked: a farewell (408) or worse.
            self.close()
            return
        answer = self._answer
        answer.has_begun = True
        if not answer.status:
            answer.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            answer.fail(error.__context__ if isinstance(error.__context__, WireError) else Malformed(repr(error)))
            self.close()
            return
        if not answer.status and answer.head_bytes > _MAX_HEAD_BYTES:
            answer.fail(Malformed(f"the head exceeds {_MAX_HEAD_BYTES} bytes"))
            self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._answer is not None:
            self._answer.end_of_connection(exc)

    # ---- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.is_complete:
            raise Malformed("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._answer is not None
        self._answer.fields.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._answer is not None
        status = self._parser.get_status_code()
        if status >= _FIRST_FINAL_STATUS:
            self._answer.begin(status)
        else:
            self._answer.fields.clear()

    def on_body(self, body: bytes) -> None:
        assert self._answer is not None
        self._answer.add(body)

    def on_message_complete(self) -> None:
        assert self._answer is not None
        if self._parser.get_status_code() >= _FIRST_FINAL_STATUS:
            if not self._parser.should_keep_alive():
                self._is_spent = True
            self._answer.complete()


class Answer:
    """An upstream's answer: status and headers, once `wait` has returned; its body, piece by piece."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_error",
        "_has_ended",
        "_is_paused",
        "_loop",
        "_size",
        "_waiter",
        "fields",
        "has_begun",
        "head_bytes",
        "status",
    )

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._chunks: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: WireError | None = None
        self._has_ended = False
        self._is_paused = False
        # Anything at all has come.
        self.has_begun = False
        self.head_bytes = 0
        # 0 until the head has come.
        self.status = 0
        # The headers as they came; read only where they matter.
        self.fields: list[tuple[bytes, bytes]] = []

    @property
    def is_complete(self) -> bool:
        """Return whether the whole body has come off the wire."""
        return self._has_ended and self._error is None

    @property
    def is_at_end(self) -> bool:
        """Return whether the whole body has come and been read."""
        return self.is_complete and not self._chunks

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers, names in lower case; several of one name are one list (RFC 9110, section 5.3)."""
        headers: dict[str, str] = {}
        for name, value in self.fields:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        return headers

    @property
    def content_type(self) -> str:
        """Return the media type without its parameters, in lower case."""
        for name, value in self.fields:
            if name.lower() == b"content-type":
                return value.partition(b";")[0].strip().lower().decode("latin-1")
        return ""

    async def wait(self) -> None:
        """Return once the head has come. Raises ClosedEarly, Cut or Malformed."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wake_up()

    async def read(self) -> bytes:
        """Return what has come of the body since the last piece, waiting for some; b"" at its end.

        Raises Cut or Malformed, after all that came before.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return b""
            await self._wake_up()
        chunks = self._chunks
        piece = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        if self._is_paused:
            self._is_paused = False
            self._connection.resume()
        return piece

    def release(self) -> None:
        """Be done with the answer: its connection serves the next one, if its end has come."""
        self._connection.release()

    def hang_up(self) -> None:
        """Break the answer off, and its connection with it."""
        self._connection.close()

    async def _wake_up(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # ---- what the connection tells

    def begin(self, status: int) -> None:
        """Take the head as complete."""
        self.status = status
        self._wake()

    def add(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._chunks.append(body)
        self._size += len(body)
        if self._size > _HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._connection.pause()
        self._wake()

    def complete(self) -> None:
        """Take the body as whole."""
        self._has_ended = True
        self._wake()

    def fail(self, error: WireError) -> None:
        """Let the reader know of `error` once it has read what came before."""
        if not self._has_ended:
            self._has_ended = True
            self._error = error
            self._wake()

    def end_of_connection(self, cause: Exception | None) -> None:
        """Take the connection as lost: the end of a body that has no other one, else a fault."""
        is_bounded = not self.headers.keys().isdisjoint(("content-length", "transfer-encoding"))
        if self.status and not is_bounded and cause is None:
            # Such a body ends with its connection (RFC 9112, section 6.3).
            self.complete()
            return
        detail = repr(cause) if cause is not None else "closed by the upstream"
        self.fail(Cut(detail) if self.has_begun or cause is not None else ClosedEarly(detail))

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

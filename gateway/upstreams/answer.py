"""Sending a call and reading its answer, whatever the dialect: connection, deadlines, bounds, cuts."""

import asyncio
from collections.abc import AsyncIterator

from billing.tokens import TokenCounts
from gateway.calls import ChatCall, Plan
from gateway.catalogue import DeploymentEntry
from gateway.control import CallControl, DeadlinePassed
from gateway.errors import (
    UpstreamError,
    UpstreamInterrupted,
    UpstreamInvalidAnswer,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.upstreams.dialect import DialectModule, Event
from gateway.upstreams.dialects import dialect_of
from gateway.upstreams.wire.client import WireClient
from gateway.upstreams.wire.connection import Answer
from gateway.upstreams.wire.errors import ClosedEarly, ConnectFailed, WireError

MAX_ANSWER_BYTES = 64_000_000
_MAX_ERROR_BYTES = 16_000
_TAIL_SECONDS = 1.0


class UpstreamAnswer:
    """An upstream's 200 whose body has not been read yet."""

    def __init__(
        self,
        answer: Answer,
        deployment: DeploymentEntry,
        control: CallControl,
        dialect: DialectModule,
    ) -> None:
        self._answer = answer
        self._upstream = deployment.upstream
        self._control = control
        self._dialect = dialect
        # What the provider said of its input, as soon as it did: worth knowing of a stream that breaks off.
        self.known_input: TokenCounts | None = None
        # What was read of the body before anybody asked for it.
        self._first: bytes | None = None

    async def listen(self) -> None:
        """Wait until the body has begun."""
        try:
            self._first = await self._answer.read()
        except WireError as error:
            raise UpstreamInterrupted(internal_detail=repr(error)) from error

    def hang_up(self) -> None:
        """Break the answer off."""
        self._answer.hang_up()

    def release(self) -> None:
        """Give the connection back: the answer was read as far as it matters."""
        if self._answer.is_complete:
            self._answer.release()
            return
        # After the last event only the body's end is missing: the answer does not wait for it, the connection does.
        tail = asyncio.create_task(_read_tail(self._answer))
        _tails.add(tail)
        tail.add_done_callback(_tails.discard)

    async def read_completion(self) -> Event:
        """Return the body of a whole completion.

        Raises UpstreamInvalidAnswer when it is not one, UpstreamInterrupted when it is cut.
        """
        try:
            parts = []
            size = 0
            chunk = await self._answer.read() if self._first is None else self._first
            while chunk:
                self._control.expect("the rest of the answer", self._upstream.idle_timeout_seconds)
                parts.append(chunk)
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise UpstreamInvalidAnswer(internal_detail=f"the answer exceeds {MAX_ANSWER_BYTES} bytes")
                chunk = await self._answer.read()
        except WireError as error:
            raise UpstreamInterrupted(internal_detail=repr(error)) from error
        return self._dialect.read_completion(b"".join(parts) if len(parts) != 1 else parts[0])

    async def read_events(self) -> AsyncIterator[list[Event]]:
        """Yield the chunks of a stream as they come: one list for each piece off the wire.

        Returns after the stream's last event or at the end of the body; whether the stream was whole is for its reader
        to judge. Raises UpstreamInterrupted for a cut, UpstreamInvalidAnswer for what is not a chunk, or the error that
        an error event stands for.
        """
        reader = self._dialect.open_reader()
        try:
            piece = await self._answer.read() if self._first is None else self._first
            while piece:
                self._control.expect("the next event", self._upstream.idle_timeout_seconds)
                events = reader.feed(piece)
                self.known_input = reader.known_input
                if events:
                    yield events
                if reader.error is not None:
                    raise reader.error
                if reader.is_done:
                    return
                piece = await self._answer.read()
        except WireError as error:
            raise UpstreamInterrupted(internal_detail=repr(error)) from error


async def open_answer(
    client: WireClient,
    deployment: DeploymentEntry,
    call: ChatCall,
    plan: Plan,
    control: CallControl,
    *,
    is_stream: bool,
) -> UpstreamAnswer:
    """Send the call and return the answer once its head is a 200; its caller ends with `release` or `hang_up`.

    Raises the UpstreamError of what went wrong before that.
    """
    upstream = deployment.upstream
    dialect = dialect_of(upstream.dialect)
    request = dialect.build_request(deployment, call, plan, is_stream=is_stream)
    control.expect("the first token", upstream.connect_timeout_seconds + upstream.first_token_timeout_seconds)
    try:
        answer = await client.post(
            request.url, request.headers, request.body, connect_seconds=upstream.connect_timeout_seconds
        )
    except (ConnectFailed, ClosedEarly) as error:
        raise UpstreamUnreachable(internal_detail=f"{upstream.name}: {error!r}") from error
    except (WireError, ValueError) as error:
        raise UpstreamError(internal_detail=f"{upstream.name}: {error!r}") from error
    try:
        if answer.status != 200:
            raise dialect.read_error(answer.status, answer.headers, await _read_text(answer), upstream.name)
        expected = "text/event-stream" if is_stream else "application/json"
        if answer.content_type != expected:
            raise UpstreamInvalidAnswer(
                internal_detail=f"{upstream.name}: content type {answer.content_type!r}, expected {expected!r}"
            )
    except BaseException:
        answer.hang_up()
        raise
    return UpstreamAnswer(answer, deployment, control, dialect)


def timeout_error(passed: DeadlinePassed, upstream_name: str) -> UpstreamTimeout:
    """Return the error of a deadline that passed while waiting for an upstream."""
    return UpstreamTimeout(phase=f"waiting for {passed.phase}", internal_detail=f"{upstream_name}: {passed.phase}")


_tails: set[asyncio.Task[None]] = set()


async def _read_tail(answer: Answer) -> None:
    """Give a connection back to the pool once its body has ended; hang up on one that goes on talking."""
    try:
        async with asyncio.timeout(_TAIL_SECONDS):
            await answer.read()
    except (WireError, TimeoutError):
        pass
    answer.release()


async def _read_text(answer: Answer) -> str:
    """Return the beginning of an error's body."""
    text = b""
    try:
        while len(text) < _MAX_ERROR_BYTES and (piece := await answer.read()):
            text += piece
    except WireError as error:
        return repr(error)
    return text[:_MAX_ERROR_BYTES].decode(errors="replace")

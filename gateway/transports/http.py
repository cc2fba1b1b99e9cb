"""Answers over HTTP: JSON and server-sent events, and what is read from a request's head."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import orjson

from common.addresses import find_caller_address
from common.errors import AuthenticationFailed, TollkeeperError
from gateway.calls import Exchange, Receipt
from gateway.errors import ClientStalled, MethodNotAllowed
from gateway.flight import Chunk
from gateway.streams.buffer import Entry, EventSource, KeptStream
from gateway.transports.following import follow, start_following
from gateway.transports.rendering import exchange_lines, receipt_body, receipt_lines, split_lines, stream_line
from gateway.transports.uvicorn_cycle import abort_connection, write_whole_answer

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_LINE = "content-type: application/json\r\n"
# nginx would otherwise collect the stream before it passes it on.
SSE_LINES = "content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
_DONE = b"data: [DONE]\n\n"


class HttpSink:
    """Answers one request: JSON, or server-sent events with an id each."""

    def __init__(self, send: Send, *, stall_seconds: float) -> None:
        self._send = send
        self.stall_seconds = stall_seconds
        self._sequence = 0
        # Of a stream that is kept: events go there, and from there to this client.
        self._kept: KeptStream | None = None
        self._following: asyncio.Task[None] | None = None
        self.has_begun = False
        self.has_ended = False
        self.is_gone = False

    async def begin(self, exchange: Exchange) -> None:
        """Send the head of an event stream."""
        self.has_begun = True
        lines = SSE_LINES + exchange_lines(exchange)
        if exchange.kept is None:
            await self._put_head(200, lines)
            return
        self._kept = exchange.kept
        source = self._kept.attach(self._kept.label.first_seq - 1)
        await self._put_head(200, f"{lines}{stream_line(exchange.request_id)}")
        self._following = start_following(source, self._follow(source), f"{exchange.request_id} to its client")
        if self.is_gone:
            self._following.cancel()

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Send events; waits while the client's socket is full."""
        sequence = self._sequence
        parts = []
        for chunk, _ in chunks:
            parts.append(b"id: %d\ndata: %b\n\n" % (sequence, chunk))
            sequence += 1
        self._sequence = sequence
        await self._put_events(parts)

    def begin_again(self) -> None:
        """Do nothing: a whole answer has not begun, and a stream of chunks is asked for once."""

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """End a stream: the usage chunk if it was asked for, the receipt, and [DONE]."""
        assert exchange.call is not None
        details = receipt_body(receipt)
        parts = []
        if usage_chunk is not None and exchange.call.wants_usage:
            parts.append(
                b"id: %d\ndata: %b\n\n" % (self._sequence, orjson.dumps({**usage_chunk, "tollkeeper": details}))
            )
            parts.append(_DONE)
        else:
            # A chunk that was not asked for would surprise clients that read choices[0]; a comment does not. It stands
            # inside the last event: the openai SDK takes a blank line after a mere comment for an empty event.
            parts.append(b": tollkeeper %b\n%b" % (orjson.dumps(details), _DONE))
        if not self.has_begun:
            await self.begin(exchange)
        await self._put_events(parts, more=False)

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Send a whole completion: the upstream's bytes with the receipt spliced in."""
        body = body.rstrip()
        body = b'%b,"tollkeeper":%b}' % (body[:-1], orjson.dumps(receipt_body(receipt)))
        await self._put_all(200, f"{JSON_LINE}{exchange_lines(exchange)}{receipt_lines(receipt)}", body)

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Send an error as the answer, or as the last event of a stream that has begun."""
        if isinstance(error, ClientStalled) and self._kept is None:
            # Nothing gets through to this client: an error would wait behind what it does not read.
            self.abort()
            return
        if not self.has_begun:
            # A key that was revoked a moment ago still found a model: that must not tell it from a guess.
            is_stranger = isinstance(error, AuthenticationFailed)
            lines = f"x-request-id: {exchange.request_id}\r\n" if is_stranger else exchange_lines(exchange)
            await self.send_error(error, request_id=exchange.request_id, lines=lines, receipt=receipt)
            return
        body = error.as_body(request_id=exchange.request_id)
        body["finish_reason"] = "error"
        if receipt is not None:
            body["tollkeeper"] = receipt_body(receipt)
        await self._put_error(body)

    async def send_error(
        self, error: TollkeeperError, *, request_id: str, lines: str, receipt: Receipt | None = None
    ) -> None:
        """Send an error as the whole answer, with its own header lines besides the given ones."""
        lines = JSON_LINE + lines + "".join(f"{name}: {value}\r\n" for name, value in error.headers().items())
        if isinstance(error, AuthenticationFailed):
            lines += "www-authenticate: Bearer\r\n"
        if isinstance(error, MethodNotAllowed):
            lines += f"allow: {error.details['allowed']}\r\n"
        body = error.as_body(request_id=request_id)
        if receipt is not None and receipt.attempts:
            # The model answered, and is paid.
            body["tollkeeper"] = receipt_body(receipt)
            lines += receipt_lines(receipt)
        await self._put_all(error.status, lines, orjson.dumps(body))

    def lose_client(self) -> None:
        """Note that the client is gone: nothing more is sent to it, and what is kept waits for whoever comes back."""
        self.is_gone = True
        if self._following is not None:
            self._following.cancel()

    def abort(self) -> None:
        """Cut the connection of a client that reads nothing."""
        self.is_gone = True
        abort_connection(self._send)

    async def send_head(self, status: int, lines: str, *, more: bool = False) -> None:
        """Send a head; without `more` it is the whole answer."""
        await self._put_head(status, lines)
        if not more:
            await self._put_body(b"", more=False)

    async def send_body(self, status: int, lines: str, body: bytes) -> None:
        """Send a whole JSON answer."""
        await self._put_all(status, JSON_LINE + lines, body)

    async def put_entries(self, entries: list[Entry]) -> None:
        """Send events of a kept stream; waits while the client's socket is full."""
        await self.put_frame(b"".join([entry.frame for entry in entries]), more=True)

    async def put_frame(self, frame: bytes, *, more: bool) -> None:
        """Send what is written as events already."""
        await self._put_body(frame, more=more)

    async def _put_error(self, body: dict[str, object]) -> None:
        await self._put_events([b"id: %d\ndata: %b\n\n" % (self._sequence, orjson.dumps(body))], more=False)

    async def _put_events(self, events: list[bytes], *, more: bool = True) -> None:
        if self._kept is not None:
            await self._kept.append(events, is_last=not more)
        else:
            await self._put_body(b"".join(events), more=more)

    async def _follow(self, source: EventSource) -> None:
        try:
            await follow(source, self.put_entries, stall_seconds=self.stall_seconds)
        except TollkeeperError:
            # It reads nothing, or could not keep up with what is kept: it may come back.
            self.abort()
        else:
            await self._put_body(b"", more=False)

    async def _put_all(self, status: int, lines: str, body: bytes) -> None:
        lines = f"{lines}content-length: {len(body)}\r\n"
        if not self.is_gone and write_whole_answer(self._send, status, lines, body):
            self.has_ended = True
            return
        await self._put_head(status, lines)
        await self._put_body(body, more=False)

    async def _put_head(self, status: int, lines: str) -> None:
        if not self.is_gone:
            await self._send({"type": "http.response.start", "status": status, "headers": split_lines(lines)})

    async def _put_body(self, body: bytes, *, more: bool) -> None:
        self.has_ended = not more
        if self.is_gone:
            return
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except OSError:  # some servers raise for a client that has gone, others swallow the bytes
            self.is_gone = True


def find_bearer_token(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the key of the Authorization header, or None."""
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return headers by name in lower case; several of one name are one list (RFC 9110, section 5.3)."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    merged = dict(headers)
    if len(merged) != len(headers):
        merged = {}
        for name, value in headers:
            merged[name] = merged[name] + b", " + value if name in merged else value
    return merged


def client_address_of(scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
    """Return the caller's address, see `common.addresses.find_caller_address`."""
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1")
    client = scope.get("client")
    return find_caller_address(client[0] if client else "", forwarded)

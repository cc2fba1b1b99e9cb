"""The HTTP transport: plain ASGI in front of Django, because a request cycle there costs more than a call.

Channels' own HTTP consumer hands out one message after the other (a client that leaves is not seen while a handler
runs) and collects a body of any size; see docs/decisions/0002. Here the call is a task of its own, the body is
bounded, and the connection's own task waits for the disconnect, which servers also report after the last byte: no
task is spent on watching.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

import orjson

from common.errors import AuthenticationFailed, TollkeeperError
from common.ids import make_id
from gateway.calls import Exchange, Receipt
from gateway.control import CallControl
from gateway.errors import BodyTooLarge, ClientStalled, MethodNotAllowed
from gateway.operations import Operation
from gateway.pipeline import run_call
from gateway.runtime import Runtime, get_runtime
from gateway.transports.rendering import exchange_headers, receipt_body, receipt_headers

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_SSE_HEAD = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would otherwise collect the stream before it passes it on.
    (b"x-accel-buffering", b"no"),
]


class ClientGone(Exception):
    """The client left before its request was complete."""


async def serve_operation(operation: Operation, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one HTTP request of a data plane operation."""
    runtime = await get_runtime()
    sink = HttpSink(send)
    request_id = make_id("req")
    try:
        if scope["method"] != operation.method:
            raise MethodNotAllowed(method=scope["method"], allowed=operation.method)
        token = find_bearer_token(scope)
        if token is None:
            raise AuthenticationFailed
        raw_body = await _read_body(scope, receive, limit=runtime.max_body_bytes)
    except TollkeeperError as error:
        await sink.send_error(error, request_id=request_id, headers=[(b"x-request-id", request_id.encode())])
        return
    except ClientGone:
        return
    exchange = Exchange(
        operation=operation,
        token=token,
        raw_body=raw_body,
        client_address=client_address_of(scope, runtime),
        request_id=request_id,
    )
    control = CallControl()
    task = asyncio.create_task(run_call(runtime, exchange, control, sink), name=request_id)
    try:
        # Returns when the client leaves, or when the last byte has been handed to the server.
        await receive()
        if not sink.has_ended:
            sink.is_gone = True
            control.client_left()
        await task
    except asyncio.CancelledError:
        # The server gives up on this connection; the call settles all the same.
        sink.is_gone = True
        runtime.keep(task)
        control.client_left()
        raise


class HttpSink:
    """Answers one request: JSON, or server-sent events with an id each."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sequence = 0
        self.has_begun = False
        self.has_ended = False
        self.is_gone = False

    async def begin(self, exchange: Exchange) -> None:
        """Send the head of an event stream."""
        self.has_begun = True
        await self._put_head(200, [*_SSE_HEAD, *exchange_headers(exchange)])

    async def send_chunks(self, chunks: list[bytes]) -> None:
        """Send events; waits while the client's socket is full."""
        sequence = self._sequence
        parts = []
        for chunk in chunks:
            parts.append(b"id: %d\ndata: %b\n\n" % (sequence, chunk))
            sequence += 1
        self._sequence = sequence
        await self._put_body(b"".join(parts), more=True)

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """End a stream: the usage chunk if it was asked for, the receipt, and [DONE]."""
        assert exchange.call is not None
        details = receipt_body(receipt)
        parts = []
        if usage_chunk is not None and exchange.call.wants_usage:
            parts.append(
                b"id: %d\ndata: %b\n\n" % (self._sequence, orjson.dumps({**usage_chunk, "tollkeeper": details}))
            )
        else:
            # A chunk that was not asked for would surprise clients that read choices[0]; a comment does not. It stands
            # inside the last event: the openai SDK takes a blank line after a mere comment for an empty event.
            parts.append(b": tollkeeper %b\n" % orjson.dumps(details))
        parts.append(b"data: [DONE]\n\n")
        if not self.has_begun:
            await self.begin(exchange)
        await self._put_body(b"".join(parts), more=False)

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Send a whole completion: the upstream's bytes with the receipt spliced in."""
        body = body.rstrip()
        body = body[:-1] + b',"tollkeeper":' + orjson.dumps(receipt_body(receipt)) + b"}"
        headers = [_JSON, *exchange_headers(exchange), *receipt_headers(receipt)]
        await self._put_all(200, headers, body)

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Send an error as the answer, or as the last event of a stream that has begun."""
        if isinstance(error, ClientStalled):
            # Nothing gets through to this client: an error would wait behind what it does not read.
            self.is_gone = True
            abort_connection(self._send)
            return
        if not self.has_begun:
            await self.send_error(error, request_id=exchange.request_id, headers=exchange_headers(exchange))
            return
        body = error.as_body(request_id=exchange.request_id)
        body["finish_reason"] = "error"
        if receipt is not None:
            body["tollkeeper"] = receipt_body(receipt)
        await self._put_body(b"id: %d\ndata: %b\n\n" % (self._sequence, orjson.dumps(body)), more=False)

    async def send_error(self, error: TollkeeperError, *, request_id: str, headers: Headers) -> None:
        """Send an error as the whole answer."""
        extra = [(name.encode(), value.encode()) for name, value in error.headers().items()]
        if isinstance(error, AuthenticationFailed):
            extra.append((b"www-authenticate", b"Bearer"))
        if isinstance(error, MethodNotAllowed):
            extra.append((b"allow", str(error.details["allowed"]).encode()))
        await self._put_all(error.status, [_JSON, *headers, *extra], orjson.dumps(error.as_body(request_id=request_id)))

    async def _put_all(self, status: int, headers: Headers, body: bytes) -> None:
        await self._put_head(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self._put_body(body, more=False)

    async def _put_head(self, status: int, headers: Headers) -> None:
        if not self.is_gone:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _put_body(self, body: bytes, *, more: bool) -> None:
        self.has_ended = not more
        if self.is_gone:
            return
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except OSError:  # some servers raise for a client that has gone, others swallow the bytes
            self.is_gone = True


def abort_connection(send: Send) -> None:
    """Cut a client's connection at once, with whatever is buffered for it.

    A server closes a connection once its buffer is empty, which never happens for a client that reads nothing. ASGI
    has no word for it: uvicorn's `send` is a method of what owns the transport. Under another server nothing happens.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()


def find_bearer_token(scope: Scope) -> str | None:
    """Return the key of the Authorization header, or None."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return str(token.strip())
    return None


async def _read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """Return the body. Raises BodyTooLarge before reading more than `limit` bytes, ClientGone when it breaks off."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise BodyTooLarge(limit_bytes=limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit_bytes=limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts) if len(parts) != 1 else parts[0]


def client_address_of(scope: Scope, runtime: Runtime) -> str | None:
    """Return the caller's address: the last hop of X-Forwarded-For behind a trusted proxy, else the socket's peer."""
    if runtime.behind_proxy:
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                return _valid_address(value.decode("latin-1").rpartition(",")[2].strip())
    client = scope.get("client")
    return _valid_address(client[0]) if client else None


@lru_cache(maxsize=4096)
def _valid_address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None

"""The HTTP transport: plain ASGI in front of Django, because a request cycle there costs more than a call.

Channels' own HTTP consumer hands out one message after the other (a client that leaves is not seen while a handler
runs) and collects a body of any size; see docs/decisions/0002. Here the call is a task of its own, the body is
bounded, and the connection's own task waits for the disconnect, which servers also report after the last byte: no
task is spent on watching.
"""

import asyncio
from collections.abc import Mapping

from common.errors import AuthenticationFailed, TollkeeperError
from common.ids import make_id
from gateway.abuse import count_failure
from gateway.calls import Exchange
from gateway.control import CallControl
from gateway.errors import BodyTooLarge, MethodNotAllowed
from gateway.operations import Route
from gateway.pipeline import run_call
from gateway.runtime import get_runtime
from gateway.transports.http import HttpSink, Receive, Scope, Send, client_address_of, find_bearer_token, headers_of
from gateway.transports.runs import RunSink


class ClientGone(Exception):
    """The client left before its request was complete."""


async def serve_operation(route: Route, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one HTTP request of a data plane operation."""
    runtime = await get_runtime()
    operation = route.operation
    stall_seconds = runtime.client_stall_seconds
    sink = (
        RunSink(send, runtime.pulse, stall_seconds=stall_seconds)
        if route.prompt_name
        else HttpSink(send, stall_seconds=stall_seconds)
    )
    request_id = make_id("req")
    headers = headers_of(scope)
    address = client_address_of(scope, headers)
    try:
        if scope["method"] != operation.method:
            raise MethodNotAllowed(method=scope["method"], allowed=operation.method)
        token = find_bearer_token(headers)
        if token is None:
            raise AuthenticationFailed
        raw_body = await _read_body(headers, receive, limit=runtime.max_body_bytes)
    except TollkeeperError as refusal:
        error = await count_failure(refusal, address)
        await sink.send_error(error, request_id=request_id, lines=f"x-request-id: {request_id}\r\n")
        return
    except ClientGone:
        return
    exchange = Exchange(
        operation=operation,
        token=token,
        raw_body=raw_body,
        client_address=address,
        headers=headers,
        request_id=request_id,
        prompt_name=route.prompt_name,
        has_own_events=bool(route.prompt_name),
        cache_control=headers[b"cache-control"].decode("latin-1") if b"cache-control" in headers else "",
    )
    control = CallControl()
    task = asyncio.create_task(run_call(runtime, exchange, control, sink), name=request_id)
    control.begin(task)
    try:
        # Returns when the client leaves, or when the last byte has been handed to the server.
        await receive()
        if not sink.has_ended:
            sink.lose_client()
            control.client_left()
        await task
    except asyncio.CancelledError:
        # The server gives up on this connection; the call settles all the same.
        sink.lose_client()
        runtime.keep(task)
        control.client_left()
        raise


async def _read_body(headers: Mapping[bytes, bytes], receive: Receive, *, limit: int) -> bytes:
    """Return the body. Raises BodyTooLarge before reading more than `limit` bytes, ClientGone when it breaks off."""
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > limit:
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

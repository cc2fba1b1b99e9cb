"""`/v1/streams/{id}`: going on with a kept stream (GET), and ending it (DELETE)."""

import asyncio
from urllib.parse import parse_qs

import orjson
from channels.db import database_sync_to_async
from django.db import DatabaseError

from common.errors import AuthenticationFailed, TollkeeperError
from common.ids import make_id
from gateway.abuse import count_failure
from gateway.errors import AdmissionUnavailable, ClientStalled, MethodNotAllowed, ServerDraining
from gateway.limit_headers import limit_lines
from gateway.rest.counting import take_request
from gateway.runtime import Runtime, get_runtime
from gateway.stages.authenticate import authenticate_afresh
from gateway.streams.buffer import EventSource, Form
from gateway.streams.errors import StreamPositionInvalid
from gateway.transports.following import follow, start_following
from gateway.transports.http import (
    SSE_LINES,
    HttpSink,
    Receive,
    Scope,
    Send,
    client_address_of,
    find_bearer_token,
    headers_of,
)
from gateway.transports.rendering import stream_line
from keys.principals import Principal

STREAMS_PATH = "/v1/streams/"
_METHODS = ("GET", "DELETE")
_OPERATION = "streams"
_BEFORE_THE_FIRST = -1
_MOST_DIGITS = 12


async def serve_stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one HTTP request for a stream, as the path names it."""
    runtime = await get_runtime()
    request_id = make_id("req")
    sink = HttpSink(send, stall_seconds=runtime.client_stall_seconds)
    headers = headers_of(scope)
    address = client_address_of(scope, headers)
    stream_id = scope["path"].removeprefix(STREAMS_PATH)
    lines = f"x-request-id: {request_id}\r\n"
    try:
        if scope["method"] not in _METHODS:
            raise MethodNotAllowed(method=scope["method"], allowed=", ".join(_METHODS))
        if runtime.is_draining:
            raise ServerDraining
        principal, limits = await admit_reader(runtime, find_bearer_token(headers), address, request_id=request_id)
        lines += limits
        if scope["method"] == "DELETE":
            was_running = await runtime.streams.end(stream_id, principal)
            await sink.send_body(202 if was_running else 200, lines, _ended(stream_id, was_running=was_running))
            return
        after = read_position(headers, scope["query_string"])
        source = await runtime.streams.find(stream_id, principal, Form.EVENTS, after=after)
    except TollkeeperError as refusal:
        error = await count_failure(refusal, address)
        await sink.send_error(error, request_id=request_id, lines=lines)
        return
    # A browser's EventSource stops asking at 204, and at nothing else (HTML standard, server-sent events).
    if source.is_through:
        source.close()
        await sink.send_head(204, lines)
        return
    await sink.send_head(200, f"{SSE_LINES}{lines}{stream_line(stream_id)}", more=True)
    reading = start_following(source, _relay(source, sink, request_id), f"{request_id} reads {stream_id}")
    await _until_either(reading, source, receive)


async def admit_reader(
    runtime: Runtime, token: str | None, address: str | None, *, request_id: str
) -> tuple[Principal, str]:
    """Return who asks for a stream, and the header lines of limits; it counts among the calls of the control plane.

    Raises AuthenticationFailed, AddressNotAllowed, AdmissionUnavailable, or the error of a limit.
    """
    if token is None:
        raise AuthenticationFailed
    principal = await authenticate_afresh(runtime, token, address)
    try:
        answer = await database_sync_to_async(take_request)(principal, request_id=request_id, operation=_OPERATION)
    except DatabaseError as failure:
        raise AdmissionUnavailable(internal_detail=repr(failure)) from failure
    if answer.error is not None:
        raise answer.error
    return principal, limit_lines(answer.limits)


def read_position(headers: dict[bytes, bytes], query: bytes) -> int:
    """Return the number of the last event that the reader has; the header of a browser's EventSource comes first.

    Raises StreamPositionInvalid.
    """
    given, name = headers.get(b"last-event-id", b"").decode("latin-1").strip(), "Last-Event-ID"
    if not given:
        given, name = parse_qs(query.decode("latin-1")).get("after", [""])[-1], "after"
    if not given:
        return _BEFORE_THE_FIRST
    if not given.isascii() or not given.isdigit() or len(given) > _MOST_DIGITS:
        raise StreamPositionInvalid(param=name)
    return int(given)


async def _relay(source: EventSource, sink: HttpSink, request_id: str) -> None:
    """Hand the events on to the end of the stream, or of what can be had of it here."""
    try:
        await follow(source, sink.put_entries, stall_seconds=sink.stall_seconds)
    except ClientStalled:
        sink.abort()
    except TollkeeperError as error:
        # Without an id: the reader's place in the stream stays where it was.
        body = {**error.as_body(request_id=request_id), "finish_reason": "error"}
        await sink.put_frame(b"event: error\ndata: %b\n\n" % orjson.dumps(body), more=False)
    else:
        await sink.put_frame(b"", more=False)


async def _until_either(reading: "asyncio.Task[None]", source: EventSource, receive: Receive) -> None:
    """Return when the stream has been read, or its reader has left."""
    leaving = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        source.close()
        for task in (reading, leaving):
            task.cancel()
        await asyncio.gather(reading, leaving, return_exceptions=True)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _ended(stream_id: str, *, was_running: bool) -> bytes:
    return orjson.dumps({"object": "stream", "id": stream_id, "status": "ending" if was_running else "removed"})

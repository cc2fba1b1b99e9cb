"""The WebSocket transport, a Channels consumer: several calls at once on one socket.

Client to server: `{"type": "auth", "api_key": ...}` first unless the handshake had an Authorization header;
`{"type": "call", "id": ..., "body": {...}}`; `{"type": "run", "id": ..., "prompt": ..., "body": {...}}`;
`{"type": "resume", "id": ..., "stream": ..., "after": ...}`; `{"type": "cancel", "id": ...}`.
Server to client: `ready`, and for each call `start`, `delta` (with `seq`), then exactly one of `done` and `error`.
The key is looked up and admitted anew for every call. Close codes are in `CloseCode`.
"""

import asyncio
import logging
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any

import orjson
from channels.generic.websocket import AsyncWebsocketConsumer

from common.errors import AuthenticationFailed, InvalidRequest, TollkeeperError
from common.ids import make_id
from gateway.abuse import count_failure
from gateway.attempts import openai_usage
from gateway.calls import Exchange, Receipt
from gateway.control import CallControl, StopReason
from gateway.errors import BodyTooLarge, ClientStalled, ServerDraining, SocketCallsTooMany
from gateway.flight import Chunk
from gateway.limit_headers import limit_object
from gateway.operations import CHAT_COMPLETIONS, PROMPT_RUNS, Route
from gateway.pipeline import run_call
from gateway.runtime import Runtime, get_runtime
from gateway.stages.authenticate import authenticate
from gateway.streams.buffer import KeptStream
from gateway.streams.composing import Composer, make_composer
from gateway.streams.gathering import Gathering
from gateway.streams.pulse import Pulse
from gateway.transports.http import client_address_of, find_bearer_token, headers_of
from gateway.transports.rendering import prompt_body, receipt_body, run_body, version_body
from gateway.transports.socket_messages import read_call_id, read_prompt_name, read_wish
from gateway.transports.socket_streams import SocketStreams
from gateway.transports.streams import admit_reader
from gateway.transports.uvicorn_cycle import abort_connection
from gateway.versions import VERSION_HEADER
from keys.errors import InsufficientScope
from keys.scopes import Scope

logger = logging.getLogger(__name__)

_AUTH_WITHIN_SECONDS = 10
# How long a close frame may take; whoever does not read it is cut off.
_CLOSE_WITHIN_SECONDS = 2.0


class CloseCode(IntEnum):
    """Why the server closes a socket (4000-4999 are an application's own, RFC 6455 section 7.4.2)."""

    GOING_AWAY = 1001
    BAD_MESSAGE = 4400
    UNAUTHENTICATED = 4401
    AUTHENTICATION_TIMEOUT = 4408
    TOO_SLOW = 4409


class StreamConsumer(AsyncWebsocketConsumer):
    """One socket. Its calls are tasks of their own; the socket's end ends them."""

    # A name that no layer has: nobody sends to a socket from elsewhere, and with a layer each would occupy a connection
    # to Redis and end when Redis does not answer.
    channel_layer_alias = "none"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token: str | None = None
        self._calls: dict[str, CallControl] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._authentication_timer: asyncio.TimerHandle | None = None
        self._runtime: Runtime
        self.streams: SocketStreams
        self._is_closed = False
        # Of the handshake.
        self._headers: dict[bytes, bytes] = {}
        self._address: str | None = None

    async def connect(self) -> None:
        """Accept the socket; a wrong key in the handshake is answered and closed, like one in the first message."""
        self._runtime = await get_runtime()
        self._runtime.sockets.add(self)
        self.streams = SocketStreams(self, self._runtime)
        self._headers = headers_of(self.scope)
        self._address = client_address_of(self.scope, self._headers)
        await self.accept()
        token = find_bearer_token(self._headers)
        if token is not None:
            await self._authenticate(token)
            return
        loop = asyncio.get_running_loop()
        self._authentication_timer = loop.call_later(_AUTH_WITHIN_SECONDS, self._authentication_is_late)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take one message."""
        try:
            message = self._read(text_data, bytes_data)
            match message.get("type"):
                case "auth":
                    if "api_version" in message:
                        self._headers = {**self._headers, VERSION_HEADER: str(message["api_version"]).encode()}
                    await self._authenticate(str(message.get("api_key", "")))
                case _ if self._token is None:
                    raise AuthenticationFailed
                case "call":
                    await self._begin_call(message, Route(CHAT_COMPLETIONS))
                case "run":
                    await self._begin_call(message, Route(PROMPT_RUNS, read_prompt_name(message)))
                case "resume":
                    await self._resume(message)
                case "cancel":
                    await self._cancel(str(message.get("id")))
                case other:
                    raise InvalidRequest(
                        f"Unknown type {other!r}: send auth, call, run, resume or cancel.", param="type"
                    )
        except AuthenticationFailed as failure:
            await self._refuse(failure)
        except TollkeeperError as error:
            await self._send_error(error, make_id("req"))
            await self._end(CloseCode.BAD_MESSAGE)

    async def disconnect(self, code: int) -> None:
        """End the calls of a socket that is gone, as their upstreams want it."""
        self._is_closed = True
        self._runtime.sockets.discard(self)
        self._stop_timer()
        self._lose_client()

    async def close_for_shutdown(self) -> None:
        """Tell the client that this server is going away; its calls have ended by now."""
        await self._end(CloseCode.GOING_AWAY)

    async def send_event(self, event: dict[str, Any]) -> None:
        """Send one message; waits while the client's socket is full."""
        await self.send_raw(orjson.dumps(event).decode())

    async def send_raw(self, text: str) -> None:
        """Send one message that is JSON already; nothing once the socket is gone."""
        if self._is_closed:
            return
        try:
            await self.send(text_data=text)
        except (OSError, RuntimeError):  # the server noticed the disconnect before we were told
            self._is_closed = True

    def give_up(self) -> None:
        """Close the socket of a client that does not read, without waiting for it: nothing more is sent."""
        if not self._is_closed:
            self._is_closed = True
            self._run_aside(self._end(CloseCode.TOO_SLOW))
            self._lose_client()

    def end_call(self, call_id: str) -> None:
        """Forget a call that has sent its last event."""
        self._calls.pop(call_id, None)

    def _lose_client(self) -> None:
        for control in self._calls.values():
            control.client_left()
        self.streams.close()

    async def _cancel(self, call_id: str) -> None:
        control = self._calls.get(call_id)
        if control is not None:
            control.stop(StopReason.CLIENT_CANCELLED)
        else:
            await self.streams.cancel(call_id)

    async def _resume(self, message: dict[str, Any]) -> None:
        """Go on with a kept stream; a refusal is the one message of its id, as for a call."""
        call_id, request_id = self._new_id(message), make_id("req")
        try:
            self._check_room()
            principal, _ = await admit_reader(self._runtime, self._token, self._address, request_id=request_id)
            await self.streams.resume(message, call_id, principal)
        except TollkeeperError as refusal:
            error = await count_failure(refusal, self._address)
            await self.send_event({"type": "error", "id": call_id, **error.as_body(request_id=request_id)})
            if isinstance(refusal, AuthenticationFailed):
                await self._end(CloseCode.UNAUTHENTICATED)

    def _read(self, text_data: str | None, bytes_data: bytes | None) -> dict[str, Any]:
        raw = text_data if text_data is not None else bytes_data
        if raw is None or len(raw) > self._runtime.max_body_bytes:
            raise BodyTooLarge(limit_bytes=self._runtime.max_body_bytes)
        try:
            message = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"The message is not valid JSON: {error}.") from None
        if not isinstance(message, dict):
            raise InvalidRequest("A message must be a JSON object.")
        return message

    async def _authenticate(self, token: str) -> None:
        self._stop_timer()
        exchange = Exchange(operation=CHAT_COMPLETIONS, token=token, raw_body=b"", client_address=self._address)
        try:
            await authenticate(self._runtime, exchange)
        except InsufficientScope as failure:
            if exchange.principal is None or Scope.PROMPTS_RUN not in exchange.principal.scopes:
                await self._refuse(failure)
                return
        except TollkeeperError as failure:
            await self._refuse(failure)
            return
        self._token = token
        await self.send_event({"type": "ready"})

    async def _refuse(self, failure: TollkeeperError) -> None:
        await self._send_error(await count_failure(failure, self._address), make_id("req"))
        await self._end(CloseCode.UNAUTHENTICATED)

    async def _send_error(self, error: TollkeeperError, request_id: str) -> None:
        """Send the `error` of the socket itself, under an id of its own by which the log knows it."""
        logger.info("%s: %s on a socket: %s", request_id, error.code, error.internal_detail or error.message)
        await self.send_event({"type": "error", "id": None, **error.as_body(request_id=request_id)})

    async def _begin_call(self, message: dict[str, Any], route: Route) -> None:
        call_id = self._new_id(message)
        assert self._token is not None
        exchange = Exchange(
            operation=route.operation,
            prompt_name=route.prompt_name,
            token=self._token,
            raw_body=orjson.dumps(message.get("body")),
            always_streams=True,
            has_own_events=True,
            is_resumable=read_wish(message),
            client_address=self._address,
            headers=self._headers,
            # Its own: browsers send a Cache-Control with the handshake, which is not about answers.
            cache_control=_cache_control(message),
        )
        sink = SocketSink(self, call_id, self._runtime.pulse)
        try:
            self._check_room()
        except TollkeeperError as error:
            await sink.fail(exchange, error, None)
            return
        control = self._calls[call_id] = CallControl()
        task = asyncio.create_task(self._run_call(exchange, control, sink))
        control.begin(task)
        self._keep(task)

    def _new_id(self, message: dict[str, Any]) -> str:
        call_id = read_call_id(message)
        if call_id in self._calls or call_id in self.streams:
            raise InvalidRequest(f"The id '{call_id}' names a call that is still running.", param="id")
        return call_id

    def _check_room(self) -> None:
        """Raise SocketCallsTooMany or ServerDraining where nothing more can begin on this socket."""
        if len(self._calls) + len(self.streams) >= self._runtime.websocket_calls_limit:
            raise SocketCallsTooMany(limit=self._runtime.websocket_calls_limit)
        if self._runtime.is_draining:
            raise ServerDraining

    async def _run_call(self, exchange: Exchange, control: CallControl, sink: "SocketSink") -> None:
        try:
            await run_call(self._runtime, exchange, control, sink)
        finally:
            self.end_call(sink.call_id)
        if sink.was_unauthenticated:
            await self._end(CloseCode.UNAUTHENTICATED)

    def _authentication_is_late(self) -> None:
        self._run_aside(self._end(CloseCode.AUTHENTICATION_TIMEOUT))

    async def _end(self, code: CloseCode) -> None:
        """Close the socket, within a bound: a frame waits behind what the client does not read."""
        self._is_closed = True
        try:
            async with asyncio.timeout(_CLOSE_WITHIN_SECONDS):
                await self.close(code)
        except TimeoutError:
            abort_connection(self.base_send)
        except (OSError, RuntimeError):
            logger.debug("the client has gone before its socket was closed with %s", code)

    def _run_aside(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._keep(asyncio.create_task(coroutine))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stop_timer(self) -> None:
        if self._authentication_timer is not None:
            self._authentication_timer.cancel()
            self._authentication_timer = None


def _cache_control(message: dict[str, Any]) -> str:
    text = message.get("cache_control", "")
    if not isinstance(text, str):
        raise InvalidRequest("'cache_control' is a text like 'max-age=3600'.", param="cache_control")
    return text


class SocketSink:
    """One call's events on a socket."""

    def __init__(self, consumer: StreamConsumer, call_id: str, pulse: Pulse) -> None:
        self._consumer = consumer
        self.call_id = call_id
        self._id_json = orjson.dumps(call_id).decode()
        self._sequence = 0
        self._gathering = Gathering(pulse, self._send_gathered)
        self._composer: Composer | None = None
        # Of a stream that is kept: messages go there, without the id, and from there to this socket.
        self._kept: KeptStream | None = None
        self.has_begun = False
        self.was_unauthenticated = False

    async def begin(self, exchange: Exchange) -> None:
        """Send `start`: request id, model, upstream, limits."""
        self.has_begun = True
        assert exchange.plan is not None
        self._composer = make_composer(exchange)
        if exchange.kept is not None:
            self._kept = exchange.kept
            self._consumer.streams.follow(self._kept.attach(self._kept.label.first_seq - 1), self.call_id)
        await self._put(
            {
                "type": "start",
                "id": self.call_id,
                "request_id": exchange.request_id,
                "model": exchange.plan.model.name,
                "upstream": exchange.deployment.upstream.name if exchange.deployment else None,
                **({"prompt": prompt_body(exchange.prompt_mark)} if exchange.prompt_mark is not None else {}),
                **({"resumable": True} if exchange.kept is not None else {}),
                **({} if exchange.older_shape is None else version_body(exchange.older_shape)),
                **({"cache": exchange.cache_state} if exchange.cache_state and exchange.replayed is None else {}),
                "limits": limit_object(exchange.limits),
            }
        )

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Send a `delta`, or a `partial`, for a few chunks at a time."""
        await self._gathering.add(chunks)

    async def _send_gathered(self, chunks: list[Chunk]) -> None:
        assert self._composer is not None
        for kind, fields in self._composer.compose(chunks):
            inner = f'"seq":{self._sequence},{fields.decode()}'
            self._sequence += 1
            if self._kept is not None:
                await self._kept.append([f'"type":"{kind}",{inner}'.encode()])
            else:
                await self._consumer.send_raw(f'{{"type":"{kind}","id":{self._id_json},{inner}}}')

    async def _put(self, event: dict[str, Any], *, is_last: bool = False) -> None:
        if self._kept is None:
            await self._consumer.send_event(event)
            return
        # Whoever comes back gives the stream another id.
        inner = orjson.dumps({name: value for name, value in event.items() if name != "id"})[1:-1]
        await self._kept.append([inner], is_last=is_last)

    def begin_again(self) -> None:
        """Begin the value anew; the next `partial` has the number of its attempt."""
        self._gathering.drop()
        if self._composer is not None:
            self._composer.begin_again()

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """Send `done`: the upstream's usage and the receipt. The id is free again from then on."""
        if not self.has_begun:
            await self.begin(exchange)
        await self._gathering.flush()
        self._consumer.end_call(self.call_id)
        if exchange.is_run:
            run = run_body(exchange, receipt)
            done = {"type": "done", "id": self.call_id, "seq": self._sequence, "run": run}
            await self._put(done, is_last=True)
            return
        event: dict[str, Any] = {
            "type": "done",
            "id": self.call_id,
            "seq": self._sequence,
            "usage": openai_usage(receipt.tokens) if len(receipt.attempts) > 1 else (usage_chunk or {}).get("usage"),
            "tollkeeper": receipt_body(receipt),
        }
        assert exchange.call is not None
        if exchange.call.contract is not None:
            event["output"] = exchange.output
        await self._put(event, is_last=True)

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Never asked for: calls on a socket always stream."""
        raise AssertionError("a call on a WebSocket was answered whole")

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Send `error`, the last event of its call."""
        self.was_unauthenticated = isinstance(error, AuthenticationFailed)
        self._consumer.end_call(self.call_id)
        if isinstance(error, ClientStalled) and self._kept is None:
            self._consumer.give_up()
            return
        await self._gathering.flush()
        event = {
            "type": "error",
            "id": self.call_id,
            "seq": self._sequence,
            **error.as_body(request_id=exchange.request_id),
        }
        if exchange.limits and not self.has_begun:
            event["limits"] = limit_object(exchange.limits)
        if receipt is not None:
            event["tollkeeper"] = receipt_body(receipt)
        await self._put(event, is_last=True)

"""The HTTP surface: the dialects of OpenAI and Anthropic on any prefix, and the control API under `/_`."""

import asyncio
import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.upstream.answers import (
    CREATED_AT_SECONDS,
    Event,
    EventKind,
    build_completion,
    build_error,
    build_stream,
    encode_json,
    read_call,
)
from tests.upstream.behaviours import Behaviour, JsonObject
from tests.upstream.delivery import Delivery
from tests.upstream.journal import Journal, RecordedRequest
from tests.upstream.messages import PATH_END, build_message, build_message_error, build_message_stream
from tests.upstream.presets import error
from tests.upstream.script import Script

# Tests send large prompts; refusing them is the gateway's business, not the double's.
MAX_BODY_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The handlers, over the state that they share with the tests."""

    script: Script
    journal: Journal
    models: tuple[str, ...]

    def make_app(self) -> web.Application:
        """Build the application; needs no event loop yet."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/_script", self.load_script)
        app.router.add_post("/_release", self.release)
        app.router.add_post("/_reset", self.reset)
        app.router.add_get("/_requests", self.list_requests)
        app.router.add_get("/_held", self.list_held)
        app.router.add_route("*", "/{path:.*}", self.answer)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Record a request, choose its behaviour and play it."""
        raw_body = await request.read()
        recorded = self.journal.open_request(
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=_parse_object(raw_body),
            raw_body=raw_body,
        )
        behaviour = self._choose(recorded)
        streams, events = _build_events(behaviour, recorded)
        delivery = Delivery(request=request, number=recorded.number, behaviour=behaviour, journal=self.journal)
        response = web.StreamResponse(status=behaviour.status)
        own_type = "text/event-stream; charset=utf-8" if streams else "application/json"
        response.headers["content-type"] = behaviour.content_type or own_type
        response.headers["x-request-id"] = f"req-scripted-{recorded.number}"
        response.headers.update(behaviour.headers)
        if streams:
            response.enable_chunked_encoding()
            return await delivery.play(response, events)
        body = list(events)
        response.content_length = sum(len(event.data.encode()) for event in body)
        return await delivery.play(response, body)

    def _choose(self, recorded: RecordedRequest) -> Behaviour:
        if recorded.is_chat and recorded.method == "POST":
            if recorded.body is None:
                return error(400, message="the body is not a JSON object")
            return self.script.choose(str(recorded.body.get("model", "")))
        if behaviour := self.script.choose_for_path(recorded.path):
            return behaviour
        if recorded.path.endswith("/models"):
            return Behaviour(body=encode_json(self._list_models()))
        return error(404, message=f"no {recorded.method} {recorded.path} here")

    def _list_models(self) -> JsonObject:
        entries = [
            {"id": name, "object": "model", "created": CREATED_AT_SECONDS, "owned_by": "scripted"}
            for name in self.models
        ]
        return {"object": "list", "data": entries}

    async def load_script(self, request: web.Request) -> web.Response:
        """Add a script (`Script.load`); 400 with the reason when it cannot be read."""
        try:
            self.script.load(await request.json())
        except ValueError as problem:
            return web.json_response({"error": str(problem)}, status=400)
        return web.json_response({"queued": self.script.count_queued()})

    async def release(self, request: web.Request) -> web.Response:
        """Let the held requests go on."""
        return web.json_response({"released": self.journal.release()})

    async def reset(self, request: web.Request) -> web.Response:
        """Forget the script and the requests."""
        self.script.reset()
        self.journal.reset()
        return web.json_response({})

    async def list_requests(self, request: web.Request) -> web.Response:
        """List chat requests; `?n=` waits for that many, up to `timeout_seconds`, else 408."""
        return await self._list(request, held=False)

    async def list_held(self, request: web.Request) -> web.Response:
        """List held requests; waits like `list_requests`."""
        return await self._list(request, held=True)

    async def _list(self, request: web.Request, *, held: bool) -> web.Response:
        read = self.journal.read_held if held else self.journal.read_chats
        try:
            found = await asyncio.to_thread(
                self.journal.wait_for,
                read,
                n=int(request.query.get("n", 0)),
                timeout_seconds=float(request.query.get("timeout_seconds", 5)),
                what="held requests" if held else "requests",
            )
        except TimeoutError as problem:
            return web.json_response({"error": str(problem)}, status=408)
        return web.json_response({"requests": [_render_request(item) for item in found]})


def _build_events(behaviour: Behaviour, recorded: RecordedRequest) -> tuple[bool, Iterable[Event]]:
    """Return whether the answer is a stream, and its events."""
    if behaviour.body is not None:
        return False, [Event(kind=EventKind.BODY, data=behaviour.body)]
    is_anthropic = recorded.path.endswith(PATH_END)
    if behaviour.status != 200:
        error_body = (build_message_error if is_anthropic else build_error)(behaviour)
        return False, [Event(kind=EventKind.BODY, data=encode_json(error_body))]
    call = read_call(number=recorded.number, body=recorded.body or {})
    if call.stream if behaviour.streams is None else behaviour.streams:
        return True, (build_message_stream if is_anthropic else build_stream)(behaviour, call)
    whole = (build_message if is_anthropic else build_completion)(behaviour, call)
    return False, [Event(kind=EventKind.BODY, data=encode_json(whole))]


def _parse_object(raw_body: bytes) -> JsonObject | None:
    try:
        parsed = json.loads(raw_body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _render_request(request: RecordedRequest) -> dict[str, Any]:
    values = dataclasses.asdict(request)
    values["raw_body"] = request.raw_body.decode(errors="replace")
    values["started_at"] = request.started_at.isoformat()
    values["ended_at"] = request.ended_at.isoformat() if request.ended_at else None
    return values

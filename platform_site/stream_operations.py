"""Going on with kept streams, for the OpenAPI document: served before Django, like the calls themselves."""

from typing import Any

from common.errors import TollkeeperError
from gateway.errors import AdmissionUnavailable, ServerDraining
from gateway.rest.schema import COMMON_ERRORS, describe_errors
from gateway.streams import errors as stream_errors
from gateway.transports.streams import STREAMS_PATH
from keys.scopes import Scope

_ERRORS: tuple[type[TollkeeperError], ...] = (
    *COMMON_ERRORS,
    AdmissionUnavailable,
    ServerDraining,
    stream_errors.StreamNotFound,
    stream_errors.StreamsUnavailable,
)
_READING_ERRORS: tuple[type[TollkeeperError], ...] = (
    *_ERRORS,
    stream_errors.StreamPositionInvalid,
    stream_errors.StreamOfOtherForm,
    stream_errors.StreamEventsGone,
)
_STREAM_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "`x-stream-id` of the call's answer.",
    "schema": {"type": "string"},
}
_POSITION = {"type": "integer", "minimum": 0}
_AFTER = (
    {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "The id of the last event that you have, as a browser's EventSource sends it.",
        "schema": _POSITION,
    },
    {
        "name": "after",
        "in": "query",
        "required": False,
        "description": "The same, where no header can be set. Left out: from the first event on.",
        "schema": _POSITION,
    },
)
_ENDED = {
    "type": "object",
    "required": ["object", "id", "status"],
    "properties": {
        "object": {"const": "stream"},
        "id": {"type": "string"},
        "status": {"enum": ["ending", "removed"]},
    },
}


def describe_streams() -> dict[str, dict[str, Any]]:
    """Return path and operations of kept streams."""
    common = {
        "tags": ["calls"],
        "security": [{"apiKey": []}],
        # That of the call: whoever may not make it may not read it either.
        "x-required-scope": f"{Scope.CHAT_WRITE} or {Scope.PROMPTS_RUN}",
    }
    body = {"application/json": {"schema": _ENDED}}
    read = {
        **common,
        "operationId": "resume_stream",
        "summary": "Go on with a stream",
        "description": "The events after the one that you have, as the call itself sends them, live while it runs. For "
        "streams whose call had `x-resumable: true`, by keys of the same customer that could make the call. An `error` "
        "without an id means that the stream cannot be read on here; ask again.",
        "parameters": [_STREAM_ID, *_AFTER],
        "responses": {
            "200": {"description": "The events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            "204": {"description": "The stream has ended, and you have all of it."},
            **describe_errors(_READING_ERRORS),
        },
    }
    end = {
        **common,
        "operationId": "end_stream",
        "summary": "End a stream, or forget one that has ended",
        "description": "What has been produced is charged. A stream that has ended is removed, with its events.",
        "parameters": [_STREAM_ID],
        "responses": {
            "200": {"description": "It had ended, and is removed.", "content": body},
            "202": {"description": "It is ending; its last event says so.", "content": body},
            **describe_errors(_ERRORS),
        },
    }
    return {f"{STREAMS_PATH}{{id}}": {"get": read, "delete": end}}

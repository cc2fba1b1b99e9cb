"""What customers can do on the data plane, each operation declared once.

ASGI routing, authorization and the OpenAPI document read these declarations; the request and response types are the
openai package's own.
"""

from dataclasses import dataclass
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import BaseModel

from keys.scopes import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the data plane over HTTP."""

    # Stored in usage records.
    name: str
    method: str
    path: str
    scope: Scope
    # Which limits a call takes from; operations of one class share them.
    limits_class: str
    summary: str
    # A TypedDict of the openai package; parameters that it does not know are refused.
    request_type: Any
    response_type: type[BaseModel]
    # What a streamed answer's events hold; None: does not stream.
    chunk_type: type[BaseModel] | None

    @property
    def can_stream(self) -> bool:
        """Return whether `"stream": true` is answered by an event stream."""
        return self.chunk_type is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A WebSocket that carries calls of an operation. OpenAPI has no words for it, so it gets an extension."""

    path: str
    operation: Operation
    summary: str
    description: str


CHAT_COMPLETIONS = Operation(
    name="chat.completions",
    method="POST",
    path="/v1/chat/completions",
    scope=Scope.CHAT_WRITE,
    limits_class="chat",
    summary="Create a chat completion",
    request_type=CompletionCreateParamsNonStreaming,
    response_type=ChatCompletion,
    chunk_type=ChatCompletionChunk,
)

OPERATIONS = (CHAT_COMPLETIONS,)

STREAM_PATH = "/v1/stream"
STREAM = Socket(
    path=STREAM_PATH,
    operation=CHAT_COMPLETIONS,
    summary="Several streaming calls on one WebSocket",
    description=(
        "Authenticate with `Authorization: Bearer` in the handshake, or with the first message "
        '`{"type": "auth", "api_key": "tk_..."}`. Then '
        '`{"type": "call", "id": "a", "body": {...}}` starts a call and `{"type": "cancel", "id": "a"}` ends it; '
        "the server sends `start`, `delta` (numbered by `seq`) and one of `done` and `error` for each. Messages and "
        "close codes: docs/reference/streaming.md."
    ),
)

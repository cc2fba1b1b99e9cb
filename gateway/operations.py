"""What customers can do on the data plane, each operation declared once.

ASGI routing, authorization and the OpenAPI document read these declarations; the request and response types are the
openai package's own.
"""

from dataclasses import dataclass
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from keys.scopes import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the data plane."""

    # Stored in usage records.
    name: str
    method: str
    path: str
    scope: Scope
    limits_class: str
    summary: str
    request_type: Any
    response_type: Any
    # What a streamed answer's events hold; None: does not stream.
    chunk_type: Any


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

"""What customers can do on the data plane, each operation declared once.

ASGI routing, authorization and the OpenAPI document read these declarations; the request and response types of chat
completions are the openai package's own.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import BaseModel

from gateway.prompt_requests import RunRequest
from gateway.runs import PromptRun, RunEvent
from keys.limit_values import EndpointClass
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
    limits_class: EndpointClass
    summary: str
    # A TypedDict of the openai package, or a model of ours; parameters that it does not know are refused.
    request_type: Any
    response_type: type[BaseModel]
    # What a streamed answer's events hold; None: does not stream.
    chunk_type: type[BaseModel] | None
    # The platform's own calls: they leave usage records and move no money.
    is_free: bool = False
    # Asked by a content rule about another call: no content rule looks at it, and it waits for nobody, since that call
    # waits for it.
    is_check: bool = False

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
    limits_class=EndpointClass.CHAT,
    summary="Create a chat completion",
    request_type=CompletionCreateParamsNonStreaming,
    response_type=ChatCompletion,
    chunk_type=ChatCompletionChunk,
)

PROMPT_RUNS = Operation(
    name="prompts.runs",
    method="POST",
    path="/v1/prompts/{name}/runs",
    scope=Scope.PROMPTS_RUN,
    limits_class=EndpointClass.CHAT,
    summary="Run a prompt",
    request_type=RunRequest,
    response_type=PromptRun,
    chunk_type=RunEvent,
)

# Not routed: test cases of prompts, called from inside.
PROMPT_TESTS = replace(CHAT_COMPLETIONS, name="prompts.tests", summary="Run a test case of a prompt", is_free=True)
# Not routed: the questions of content rules whose judge is a model.
GUARD_CHECKS = replace(CHAT_COMPLETIONS, name="guards.checks", summary="Judge a text for a content rule", is_check=True)

OPERATIONS = (CHAT_COMPLETIONS, PROMPT_RUNS)
_BY_PATH = {operation.path: operation for operation in OPERATIONS}
_RUNS_BEFORE, _RUNS_BEHIND = PROMPT_RUNS.path.split("{name}")


class Route(NamedTuple):
    """An operation, with what its path says."""

    operation: Operation
    prompt_name: str = ""


def find_route(path: str) -> Route | None:
    """Return what a path of the data plane leads to, or None."""
    operation = _BY_PATH.get(path)
    if operation is not None:
        return Route(operation)
    if path.startswith(_RUNS_BEFORE) and path.endswith(_RUNS_BEHIND):
        name = path[len(_RUNS_BEFORE) : -len(_RUNS_BEHIND)]
        if name and "/" not in name:
            return Route(PROMPT_RUNS, name)
    return None


STREAM_PATH = "/v1/stream"
STREAM = Socket(
    path=STREAM_PATH,
    operation=CHAT_COMPLETIONS,
    summary="Several streaming calls on one WebSocket",
    description=(
        "Authenticate with `Authorization: Bearer` in the handshake, or with the first message "
        '`{"type": "auth", "api_key": "tk_..."}`. Then '
        '`{"type": "call", "id": "a", "body": {...}}` starts a call, '
        '`{"type": "run", "id": "a", "prompt": "name", "body": {...}}` a prompt run, and '
        '`{"type": "resume", "id": "b", "stream": "req_..."}` goes on with one that was `"resumable": true`, '
        '`{"type": "cancel", "id": "a"}` ends any; the server sends `start`, `delta` or (with a JSON Schema) '
        "`partial`, numbered by `seq`, and one of `done` and `error` for each. Messages and close codes: "
        "docs/reference/streaming.md."
    ),
)

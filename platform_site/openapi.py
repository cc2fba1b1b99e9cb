"""The OpenAPI document: REST endpoints from drf-spectacular, the data plane from its declarations."""

from functools import lru_cache
from typing import Any, Literal

from pydantic import TypeAdapter
from rest_framework.request import Request

from billing.errors import InsufficientBalance, PriceMissing
from common.errors import AuthenticationFailed, InternalError, TollkeeperError, all_error_classes
from gateway import errors as gateway_errors
from gateway.operations import CHAT_COMPLETIONS, OPERATIONS, PROMPT_RUNS, STREAM, Operation
from gateway.prompt_requests import PromptChoice
from gateway.rest.once import REPLAYED_HEADER
from gateway.rest.schema import (
    IDEMPOTENCY_KEY,
    REPLAYED,
    VERSION_HEADERS,
    VERSION_PARAMETER,
    describe_errors,
)
from gateway.routing import OWN_SCHEMAS
from gateway.structured import errors as output_errors
from keys import errors as keys_errors
from platform_site.prompt_operations import find_prompt_operations
from platform_site.stream_operations import describe_streams
from prompts import errors as prompt_errors

_REF = "#/components/schemas/{model}"
_EXAMPLE = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 64,
}
# Refusals of keys and of money that a call can meet; the other errors of those apps are told to admins only.
_CALL_ERRORS_BELOW: tuple[type[TollkeeperError], ...] = (
    AuthenticationFailed,
    InternalError,
    keys_errors.AuthenticationThrottled,
    keys_errors.InsufficientScope,
    keys_errors.RateLimitExceeded,
    keys_errors.ConcurrencyExceeded,
    keys_errors.RequestExceedsLimit,
    keys_errors.LimitIsZero,
    keys_errors.BudgetExceeded,
    keys_errors.BudgetTooSmall,
    keys_errors.TotalBudgetExceeded,
    InsufficientBalance,
    PriceMissing,
    prompt_errors.PromptNotFound,
    prompt_errors.PinInvalid,
    prompt_errors.PromptInputInvalid,
    prompt_errors.PromptParameterRefused,
    prompt_errors.PromptTooLarge,
    prompt_errors.PromptRenderFailed,
    prompt_errors.PromptUnusable,
    prompt_errors.PromptInvalid,
)
_CALL_ERROR_MODULES = (gateway_errors.__name__, output_errors.__name__)
# Over HTTP nobody is left to read these, or they cannot happen.
_SOCKET_ERRORS: tuple[type[TollkeeperError], ...] = (
    gateway_errors.CallCancelled,
    gateway_errors.ClientStalled,
    gateway_errors.SocketCallsTooMany,
)
_RUN_EXAMPLE = {"inputs": {"city": "Bern"}}
_RUN_DESCRIPTION = (
    ' With `"stream": true` the answer is an event stream: `start`, then `delta` (text) or `partial` (the value as far '
    "as it has grown, where the output has a schema), then `done` with the whole run, or `error`. A document asked for "
    "with an API key lists the prompts that the key may run, each with its own schemas."
)
_PROMPT_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The prompt's name.",
    "schema": {"type": "string"},
}
_MAX_ATTEMPTS = {
    "name": "x-max-attempts",
    "in": "header",
    "required": False,
    "description": "How often the model may be asked for an answer that fits its JSON Schema. Each attempt is charged.",
    "schema": {"type": "integer", "minimum": 1},
}
_RESUMABLE = {
    "name": "x-resumable",
    "in": "header",
    "required": False,
    "description": "Keep the events of the stream, so that GET /v1/streams/{id} can go on with it.",
    "schema": {"type": "boolean"},
}
_CACHE_CONTROL = {
    "name": "cache-control",
    "in": "header",
    "required": False,
    "description": "`max-age=N`: an answer that the same call had in the last N seconds will do, at the price of a "
    "reused answer; the answer is kept as long. `no-cache`: ask the model, and keep the answer. `no-store`: neither. "
    "`only-if-cached`: 504 where there is none.",
    "schema": {"type": "string"},
}
_HEADERS = {
    **VERSION_HEADERS,
    "x-stream-id": "The name of a stream that is kept, for GET /v1/streams/{id}.",
    "x-request-id": "The call's id in usage, ledger and logs.",
    "x-model": "The model that answered.",
    "x-upstream": "The upstream that answered.",
    "x-cache": "hit, coalesced, miss or bypass, where the response cache has a part in the call.",
    "age": "Of a cached answer, the seconds since it was made.",
    "x-prompt": "The prompt and its version, where one was called.",
    "x-cost-usd": "What the call cost, an exact decimal. Not on streams: there it is in the last event.",
    "x-balance-usd": "What is available after the call, an exact decimal. Not on streams.",
    "x-overhead-ms": "What the gateway itself took. Not on streams.",
    "x-upstream-ms": "What the upstream took. Not on streams.",
    REPLAYED_HEADER: REPLAYED,
    **{
        f"x-ratelimit-{part}-{kind}": f"{meaning} of the tightest limit on {kind} a minute, where there is one."
        for kind in ("requests", "input-tokens", "output-tokens")
        for part, meaning in (("limit", "Size"), ("remaining", "What is left"), ("reset", "Seconds until full"))
    },
    **{
        f"x-ratelimit-{part}-concurrency": f"{meaning} of the tightest limit on calls in flight, where there is one."
        for part, meaning in (("limit", "Size"), ("remaining", "What is left"))
    },
    **{
        f"x-budget-{part}-{period}": f"{meaning} of the tightest budget ({period}), where there is one."
        for period in ("day", "month", "total")
        for part, meaning in (
            ("limit", "USD"),
            ("remaining", "USD left, calls in flight counted at their most expensive outcome,"),
            ("reset", "Seconds until the window ends"),
        )
        if (part, period) != ("reset", "total")
    },
    "ratelimit": "What is left of each rate: draft-ietf-httpapi-ratelimit-headers-10.",
    "ratelimit-policy": "The quota and window of each rate: draft-ietf-httpapi-ratelimit-headers-10.",
    "x-limit-warning": "Limits of which 80 % or more are used, e.g. `requests;used=85%;set-by=plan`.",
}


def add_data_plane(result: dict[str, Any], request: Request | None = None, **_: Any) -> dict[str, Any]:
    """Add the data plane's operations, the error shape and the key to drf-spectacular's document (its hook)."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    added = {"Error": _ERROR, "Receipt": _RECEIPT, **_schemas().definitions}
    taken = schemas.keys() & added.keys()
    # Two meanings of one name would make the document say something wrong without being invalid.
    assert not taken, f"component names of REST serializers and of the data plane collide: {sorted(taken)}"
    schemas.update(added)
    result["security"] = [{"apiKey": []}]
    for methods in result["paths"].values():
        for operation in methods.values():
            # What asks for no key would take over the document's.
            operation.setdefault("security", [])
    calls: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        calls.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    calls |= describe_streams()
    prompts = find_prompt_operations(request, calls[PROMPT_RUNS.path]["post"])
    # First: they are what readers come for.
    result["paths"] = {**prompts, **calls, **result["paths"]}
    result["info"]["description"] += f"\n\n**WebSocket `{STREAM.path}`**: {STREAM.summary}. {STREAM.description}"
    result["x-websocket"] = {
        "path": STREAM.path,
        "summary": STREAM.summary,
        "description": STREAM.description,
        "operation": STREAM.operation.name,
        "x-required-scope": STREAM.operation.scope.value,
        "x-error-codes": sorted({error.code for error in (*_call_errors(), *_SOCKET_ERRORS)}),
    }
    return result


class _Schemas:
    """The JSON schemas of all operations' types, made in one go: only then pydantic gives each its own name."""

    def __init__(self) -> None:
        wanted: list[tuple[str, Literal["validation", "serialization"], TypeAdapter[Any]]] = []
        for operation in OPERATIONS:
            wanted.append((f"{operation.name} request", "validation", TypeAdapter(operation.request_type)))
            wanted.append((f"{operation.name} response", "serialization", TypeAdapter(operation.response_type)))
            if operation.chunk_type is not None:
                wanted.append((f"{operation.name} chunk", "serialization", TypeAdapter(operation.chunk_type)))
        found, document = TypeAdapter.json_schemas(wanted, ref_template=_REF)
        self.by_name = {name: schema for (name, _), schema in found.items()}
        self.definitions: dict[str, Any] = document["$defs"]
        self._name_request(CHAT_COMPLETIONS)

    def _name_request(self, operation: Operation) -> None:
        """Give the request the operation's name, and say what this API does differently from the package's type."""
        name = f"{operation.name.title().replace('.', '')}Request"
        given = self.by_name[f"{operation.name} request"]["$ref"].rpartition("/")[2]
        request = {**self.definitions.pop(given), "title": name, "additionalProperties": False}
        # The package lists OpenAI's own models here.
        request["properties"]["model"] = {"type": "string", "description": "A name that GET /v1/models lists."}
        # The package has one type for each value of it.
        request["properties"]["stream"] = {"type": ["boolean", "null"], "default": False}
        choice = TypeAdapter(PromptChoice).json_schema(ref_template=_REF)
        request["properties"]["prompt"] = {
            **choice,
            "description": "Put a prompt's messages before `messages` (which may be empty). Model and parameters are "
            "the prompt's; those that it opens may be set. Needs the scope `prompts:run` as well.",
        }
        request["properties"] |= OWN_SCHEMAS
        self.definitions[name] = request
        self.by_name[f"{operation.name} request"] = {"$ref": _REF.format(model=name)}


@lru_cache(maxsize=1)
def _schemas() -> _Schemas:
    return _Schemas()


def _describe(operation: Operation) -> dict[str, Any]:
    schemas = _schemas().by_name
    with_receipt = {"type": "object", "properties": {"tollkeeper": {"$ref": _REF.format(model="Receipt")}}}
    is_run = operation is PROMPT_RUNS
    answer = schemas[f"{operation.name} response"]
    content: dict[str, Any] = {"application/json": {"schema": answer if is_run else {"allOf": [answer, with_receipt]}}}
    description = f"Needs the scope `{operation.scope}`. Parameters that the API does not know are refused."
    if is_run:
        content["text/event-stream"] = {"schema": schemas[f"{operation.name} chunk"]}
        description += _RUN_DESCRIPTION
    elif operation.can_stream:
        content["text/event-stream"] = {"schema": schemas[f"{operation.name} chunk"]}
        description += (
            ' With `"stream": true` the answer is an event stream: each event\'s data is one chunk, the last one '
            "is `[DONE]`, or an object with `error` when the stream broke off."
        )
    return {
        "operationId": operation.name.replace(".", "_"),
        "summary": operation.summary,
        "description": description,
        "tags": ["calls"],
        "security": [{"apiKey": []}],
        "x-required-scope": operation.scope.value,
        "x-limits-class": operation.limits_class,
        "parameters": [
            *([_PROMPT_NAME] if is_run else []),
            _MAX_ATTEMPTS,
            IDEMPOTENCY_KEY,
            _CACHE_CONTROL,
            _RESUMABLE,
            VERSION_PARAMETER,
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": schemas[f"{operation.name} request"],
                    "example": _RUN_EXAMPLE if is_run else _EXAMPLE,
                }
            },
        },
        "responses": {
            "200": {
                "description": "The run, or its stream." if is_run else "The completion, or its stream.",
                "headers": {
                    name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in _HEADERS.items()
                },
                "content": content,
            },
            **describe_errors(_call_errors()),
        },
    }


def _call_errors() -> list[type[TollkeeperError]]:
    """Return what a call over HTTP can be answered with: whatever the gateway can raise, and refusals from below."""
    own = [error for error in all_error_classes() if error.__module__ in _CALL_ERROR_MODULES]
    # 405 is the answer to another method, so no operation has it.
    never = (*_SOCKET_ERRORS, gateway_errors.MethodNotAllowed)
    return [*_CALL_ERRORS_BELOW, *(error for error in own if error not in never)]


_ERROR: dict[str, Any] = {
    "type": "object",
    "description": "OpenAI's shape, with the retry verdict and numbers. `code` is stable, `message` is for people.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "retryable"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The parameter that is wrong."},
                "code": {"type": "string"},
                "retryable": {"type": "boolean", "description": "Whether repeating the same call can help."},
                "retry_after_seconds": {"type": "integer", "description": "As in `Retry-After`, where it is known."},
                "details": {"type": "object", "description": "The numbers behind the message."},
                "request_id": {"type": "string"},
            },
        }
    },
}
_TIMING = {"type": ["number", "null"]}
_RECEIPT: dict[str, Any] = {
    "type": "object",
    "description": "What the platform says about a call that is settled. Amounts are exact decimals.",
    "required": ["request_id", "model", "upstream", "cost_usd", "balance_usd", "usage", "timing_ms"],
    "properties": {
        "request_id": {"type": "string"},
        "model": {"type": "string"},
        "upstream": {"type": "string"},
        "truncation": {"type": "object", "properties": {"dropped_messages": {"type": "integer"}}},
        "quality": {
            "type": "object",
            "description": "Signs of how good the answer is; what is not known is absent.",
            "properties": {
                "finish_reasons": {"type": "array", "items": {"type": "string"}, "description": "Of each choice."},
                "truncated": {"type": "boolean", "description": "A choice reached its limit of tokens."},
                "mean_logprob": {"type": "number", "description": "Of all tokens that came with `logprobs`."},
                "logprob_tokens": {"type": "integer", "description": "How many those were."},
                "schema_reasks": {"type": "integer", "description": "How often the model was asked once more."},
                "sources": {
                    "type": "array",
                    "description": "Addresses that the answer cites (`annotations`), each once.",
                    "items": {
                        "type": "object",
                        "properties": {"url": {"type": "string"}, "title": {"type": "string"}},
                    },
                },
            },
        },
        "attempts": {
            "type": "array",
            "description": "Of calls that needed several, and of those whose answer must have a shape. `outcome`: "
            "answered, valid, invalid, refused, truncated, outrun, or the code of the error.",
            "items": {
                "type": "object",
                "properties": {
                    "upstream": {"type": "string"},
                    "outcome": {"type": "string"},
                    "finish_reason": {"type": ["string", "null"]},
                    "input_tokens": {"type": "integer"},
                    "output_tokens": {"type": "integer"},
                    "cost_usd": {"type": "string"},
                    "upstream_ms": {"type": "number"},
                    "problems": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "cost_usd": {"type": "string"},
        "balance_usd": {"type": "string"},
        "usage": {
            "type": "object",
            "properties": {
                "input_tokens": {"type": "integer"},
                "output_tokens": {"type": "integer"},
                "source": {"enum": ["provider", "estimated"]},
            },
        },
        "timing_ms": {
            "type": "object",
            "properties": {"upstream": _TIMING, "first_token": _TIMING, "total": _TIMING, "overhead": _TIMING},
        },
    },
}

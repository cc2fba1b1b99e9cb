"""Anthropic's errors as ours. https://platform.claude.com/docs/en/api/errors (2026-11)."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.errors import (
    UpstreamError,
    UpstreamInvalidAnswer,
    UpstreamMisconfigured,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.upstreams.statuses import error_of_status

# "messages.0.content: ...": the place, where a message begins with one. Its first word becomes OpenAI's.
_PLACE = re.compile(r"([a-z_]+)(?:\.[A-Za-z0-9_]+)*: ")
_PARAMETERS = {
    "max_tokens": "max_completion_tokens",
    "messages": "messages",
    "metadata": "user",
    "model": "model",
    "output_config": "response_format",
    "stop_sequences": "stop",
    "system": "messages",
    "temperature": "temperature",
    "thinking": "reasoning_effort",
    "tool_choice": "tool_choice",
    "tools": "tools",
    "top_p": "top_p",
}


def read_error(status: int, headers: Mapping[str, str], text: str, upstream_name: str) -> UpstreamError:
    """Return the error that an answer other than 200 stands for: by status first."""
    detail = f"{upstream_name} answered {status}: {text[:2000]}"
    try:
        error = orjson.loads(text)["error"]
        kind, message = error["type"], error["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        kind, message = None, None
    if status == 400 and kind == "billing_error":
        # Our account is empty: nothing that the customer could correct.
        return UpstreamMisconfigured(internal_detail=detail)
    return error_of_status(status, headers, detail=detail, param=_param_of(message))


def error_of_object(parsed: Mapping[str, Any]) -> UpstreamError:
    """Return the error of a body or event that is not what was expected: by the type that it names."""
    detail = f"instead of a message: {orjson.dumps(parsed)[:2000].decode(errors='replace')}"
    error = parsed.get("error")
    if not isinstance(error, Mapping):
        return UpstreamInvalidAnswer(internal_detail=detail)
    match error.get("type"):
        case "overloaded_error":
            return UpstreamOverloaded(internal_detail=detail)
        case "rate_limit_error":
            return UpstreamRateLimited(internal_detail=detail, retry_after_seconds=None)
        case "invalid_request_error" | "request_too_large":
            return UpstreamRejected(internal_detail=detail, param=_param_of(error.get("message")))
        case "authentication_error" | "permission_error" | "not_found_error" | "billing_error":
            return UpstreamMisconfigured(internal_detail=detail)
        case "timeout_error":
            return UpstreamTimeout(phase="its own time limit", internal_detail=detail)
        case _:
            return UpstreamError(internal_detail=detail)


def _param_of(message: object) -> str | None:
    """Return OpenAI's name of the parameter that a message begins with."""
    found = _PLACE.match(message) if isinstance(message, str) else None
    return _PARAMETERS.get(found[1]) if found else None

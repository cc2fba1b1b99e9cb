"""Names for the usual combinations of `Behaviour` fields."""

import json
from collections.abc import Mapping

from tests.upstream.behaviours import Behaviour, Cut, Inject, JsonObject


def make_usage(
    *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, reasoning_tokens: int = 0
) -> JsonObject:
    """Build a usage object with OpenAI's details; cached and reasoning tokens are parts of the totals."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def error(
    status: int,
    *,
    code: str | None = None,
    message: str = "scripted error",
    headers: Mapping[str, str] | None = None,
) -> Behaviour:
    """Answer with a status and an OpenAI-shaped JSON error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return Behaviour(
        status=status, error_type=kind, error_code=code, error_message=message, headers=dict(headers or {})
    )


def rate_limited(*, retry_after: str | None = None, date: str | None = None) -> Behaviour:
    """Answer 429, with `retry-after` (seconds or an HTTP date, sent as given) or without it; `date`: the head's own."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    if date is not None:
        headers["date"] = date
    return Behaviour(
        status=429,
        error_type="requests",
        error_code="rate_limit_exceeded",
        error_message="Rate limit reached",
        headers=headers,
    )


def overloaded(*, message: str = "Overloaded") -> Behaviour:
    """Answer 529, as Anthropic does under load."""
    return Behaviour(status=529, error_type="overloaded_error", error_message=message)


def message_error_event(*, after: int, kind: str, message: str = "scripted error") -> Behaviour:
    """Stream that many events of a Message, then Anthropic's error event, then end the body cleanly."""
    data = json.dumps({"type": "error", "error": {"type": kind, "message": message}})
    inject = Inject(at=after, name="error", data=data)
    return Behaviour(events=after + 2, inject=(inject,), cut_at=after + 1, cut=Cut.FINISH)


def plain_error(status: int, *, text: str = "upstream connect error") -> Behaviour:
    """Answer with a status and plain text, as proxies do."""
    return Behaviour(status=status, body=text, content_type="text/plain")


def html_error(status: int) -> Behaviour:
    """Answer with a status and an HTML page, as load balancers do."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status} Bad Gateway</h1></body></html>"
    return Behaviour(status=status, body=page, content_type="text/html")


def invalid_body() -> Behaviour:
    """Answer 200 with a JSON body that breaks off, and a Content-Length that agrees with it."""
    return Behaviour(body='{"id": "chatcmpl-1", "choices": [{"mess')


def invalid_event(*, after: int) -> Behaviour:
    """Stream normally, but with one event that is not JSON after that many events."""
    return Behaviour(events=after + 2, inject=(Inject(at=after, data='{"id": "chatcmpl-1", "choi'),))


def error_event(*, after: int, message: str = "The server had an error", code: str = "server_error") -> Behaviour:
    """Stream that many events, then an error object instead of the rest, then end the body cleanly."""
    data = json.dumps({"error": {"message": message, "type": "server_error", "param": None, "code": code}})
    return Behaviour(events=after + 2, inject=(Inject(at=after, data=data),), cut_at=after + 1, cut=Cut.FINISH)


def huge_event(*, megabytes: int) -> Behaviour:
    """Answer with one content event (or body) of that many megabytes of text."""
    return Behaviour(text="x" * (megabytes * 1_000_000), events=1)

"""What answers say about themselves: headers, and the `tollkeeper` object in bodies and final events.

Headers are lines of text, each with its CRLF, as they go over the wire: of two dozen headers, pairs would be made and
taken apart again on every call. `split_lines` makes pairs for who needs them.
"""

from typing import Any

from django.utils.http import http_date

from common.money import format_usd
from gateway.calls import Attempt, Exchange, PromptMark, Receipt
from gateway.limit_headers import limit_lines
from gateway.quality import write_quality
from gateway.versions import NEWEST, Document, OlderShape
from keys.principals import Principal


def exchange_lines(exchange: Exchange) -> str:
    """Return what is known of a call when the head of its answer leaves."""
    lines = f"x-request-id: {exchange.request_id}\r\n{limit_lines(exchange.limits)}"
    is_key_deprecated = exchange.principal is not None and exchange.principal.deprecated_us is not None
    if exchange.principal is not None and is_key_deprecated:
        lines += "".join(f"{name}: {value}\r\n" for name, value in deprecation_headers(exchange.principal))
    older = exchange.older_shape
    lines += f"api-version: {NEWEST if older is None else older.version.name}\r\n"
    if older is not None and not is_key_deprecated:
        lines += older.deprecation_lines
    if exchange.prompt_mark is not None:
        lines += _prompt_lines(exchange.prompt_mark, is_deprecation_told=is_key_deprecated or older is not None)
    if exchange.replayed is not None:
        lines += "idempotency-replayed: true\r\n"
    elif exchange.cache_state:
        lines += f"x-cache: {exchange.cache_state}\r\n"
        if exchange.reused is not None:
            lines += f"age: {exchange.cache_age_seconds}\r\n"
    if exchange.dropped_messages:
        lines += f"x-truncated-messages: {exchange.dropped_messages}\r\n"
    if exchange.plan is not None:
        lines += f"x-model: {exchange.plan.model.name}\r\n"
    if exchange.deployment is not None:
        lines += f"x-upstream: {exchange.deployment.upstream.name}\r\n"
    return lines


def stream_line(request_id: str) -> str:
    """Return what tells under which name a stream is kept."""
    return f"x-stream-id: {request_id}\r\n"


def split_lines(lines: str) -> list[tuple[bytes, bytes]]:
    """Return header lines as ASGI's pairs."""
    pairs = []
    for line in lines.encode().split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        pairs.append((name, value))
    return pairs


def deprecation_headers(principal: Principal) -> list[tuple[str, str]]:
    """Return what tells that a key has been rotated: since when (RFC 9745), and when it ends (RFC 8594)."""
    if principal.deprecated_us is None:
        return []
    headers = [("deprecation", f"@{principal.deprecated_us // 1_000_000}")]
    if principal.expires_us is not None:
        headers.append(("sunset", http_date(principal.expires_us // 1_000_000)))
    return headers


def _prompt_lines(mark: PromptMark, *, is_deprecation_told: bool) -> str:
    lines = f"x-prompt: {mark.name}@{mark.version}\r\n"
    # There is one Deprecation header: that of the key itself says more.
    if mark.deprecated_us is not None and not is_deprecation_told:
        lines += f"deprecation: @{mark.deprecated_us // 1_000_000}\r\n"
        if mark.sunset_us is not None:
            lines += f"sunset: {http_date(mark.sunset_us // 1_000_000)}\r\n"
    return lines


def receipt_lines(receipt: Receipt) -> str:
    """Return what is known once a call is settled."""
    return (
        f"x-cost-usd: {format_usd(receipt.charged_nanousd)}\r\n"
        f"x-balance-usd: {format_usd(receipt.available_nanousd)}\r\n"
        f"x-overhead-ms: {receipt.overhead_ms:.2f}\r\n"
        f"x-upstream-ms: {receipt.upstream_ms:.2f}\r\n"
    )


def receipt_body(receipt: Receipt) -> dict[str, Any]:
    """Return the `tollkeeper` object of a settled call."""
    tokens = receipt.tokens
    body: dict[str, Any] = {
        "request_id": receipt.request_id,
        "model": receipt.model,
        "upstream": receipt.upstream,
        "cost_usd": format_usd(receipt.charged_nanousd),
        "balance_usd": format_usd(receipt.available_nanousd),
        "usage": {
            "input_tokens": tokens.input_total,
            "output_tokens": tokens.output_total,
            "source": "estimated" if receipt.is_estimated else "provider",
        },
        "timing_ms": {
            "upstream": round(receipt.upstream_ms, 2),
            "first_token": None if receipt.ttft_ms is None else round(receipt.ttft_ms, 2),
            "total": round(receipt.total_ms, 2),
            "overhead": round(receipt.overhead_ms, 2),
        },
    }
    if receipt.cache:
        body["cache"] = {"state": receipt.cache, "age_seconds": receipt.cache_age_seconds}
    if receipt.waiver:
        body["no_charge"] = receipt.waiver.removeprefix("no_charge_")
    if receipt.dropped_messages:
        body["truncation"] = {"dropped_messages": receipt.dropped_messages}
    quality = write_quality(receipt.quality)
    if quality:
        body["quality"] = quality
    if receipt.guard:
        body["guard"] = [{"rule": rule, "action": action, "count": n} for rule, action, n in receipt.guard]
    if receipt.attempts:
        body["attempts"] = [_attempt_body(attempt) for attempt in receipt.attempts]
    return body


def run_start(exchange: Exchange) -> dict[str, Any]:
    """Return what is known of a prompt run when it begins to answer."""
    assert exchange.plan is not None
    assert exchange.prompt_mark is not None
    return {
        "id": exchange.request_id,
        "prompt": prompt_body(exchange.prompt_mark),
        "model": exchange.plan.model.name,
    }


def run_body(exchange: Exchange, receipt: Receipt) -> dict[str, Any]:
    """Return a whole prompt run (`gateway.runs.PromptRun`)."""
    told = receipt_body(receipt)
    assert receipt.prompt is not None
    body = {
        "id": receipt.request_id,
        "output": exchange.output,
        "finish_reason": receipt.finish_reason or None,
        "prompt": prompt_body(receipt.prompt),
        "model": receipt.model,
        "usage": told["usage"],
        "cost_usd": told["cost_usd"],
        "balance_usd": told["balance_usd"],
        "timing_ms": told["timing_ms"],
        "attempts": told.get("attempts", []),
        "quality": told.get("quality", {}),
        **({"cache": told["cache"]} if receipt.cache else {}),
    }
    if receipt.guard:
        body["guard"] = told["guard"]
    return body if exchange.older_shape is None else exchange.older_shape.translate(Document.RUN, body)


def version_body(older: OlderShape) -> dict[str, Any]:
    """Return what a message says of an older date of the API, where there are no headers."""
    version = older.version
    return {
        "api_version": {"version": version.name, "deprecated_on": version.deprecated_on, "sunset_on": version.sunset_on}
    }


def prompt_body(mark: PromptMark) -> dict[str, Any]:
    """Return how an answer names the version behind it."""
    return {"name": mark.name, "version": mark.version, "label": mark.label}


def _attempt_body(attempt: Attempt) -> dict[str, Any]:
    body: dict[str, Any] = {
        "upstream": attempt.upstream,
        "outcome": attempt.outcome,
        "finish_reason": attempt.finish_reason or None,
        "input_tokens": attempt.tokens.input_total,
        "output_tokens": attempt.tokens.output_total,
        "cost_usd": format_usd(attempt.cost_nanousd),
        "upstream_ms": round(attempt.upstream_ms, 2),
    }
    if attempt.problems:
        body["problems"] = attempt.problems
    return body

"""What answers say about themselves: headers, and the `tollkeeper` object in bodies and final events."""

from typing import Any

from common.money import format_usd
from gateway.calls import Exchange, Receipt
from keys.limits import LimitKind, LimitReading

_LIMIT_HEADERS = {
    kind: tuple(f"x-ratelimit-{part}-{kind.value}".encode() for part in ("limit", "remaining", "reset"))
    for kind in LimitKind
}


def limit_headers(limits: tuple[LimitReading, ...]) -> list[tuple[bytes, bytes]]:
    """Return `x-ratelimit-{limit,remaining,reset}-{kind}` for each rate limit; reset is in seconds until full."""
    headers = []
    for reading in limits:
        limit, remaining, reset = _LIMIT_HEADERS[reading.kind]
        headers.append((limit, b"%d" % reading.limit))
        headers.append((remaining, b"%d" % reading.remaining))
        headers.append((reset, b"%d" % reading.reset_seconds))
    return headers


def exchange_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """Return what is known of a call when the head of its answer leaves."""
    headers = [(b"x-request-id", exchange.request_id.encode()), *limit_headers(exchange.limits)]
    if exchange.plan is not None:
        headers.append((b"x-model", exchange.plan.model.name.encode()))
    if exchange.deployment is not None:
        headers.append((b"x-upstream", exchange.deployment.upstream.name.encode()))
    return headers


def receipt_headers(receipt: Receipt) -> list[tuple[bytes, bytes]]:
    """Return what is known once a call is settled."""
    return [
        (b"x-cost-usd", format_usd(receipt.charged_nanousd).encode()),
        (b"x-balance-usd", format_usd(receipt.available_nanousd).encode()),
        (b"x-overhead-ms", b"%.2f" % receipt.overhead_ms),
        (b"x-upstream-ms", b"%.2f" % receipt.upstream_ms),
    ]


def receipt_body(receipt: Receipt) -> dict[str, Any]:
    """Return the `tollkeeper` object of a settled call."""
    tokens = receipt.tokens
    return {
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

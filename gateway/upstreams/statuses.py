"""What an upstream's status means, whatever its dialect."""

from collections.abc import Mapping

from django.utils.http import parse_http_date_safe

from common.clock import SYSTEM_CLOCK
from gateway.errors import (
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)

_LONGEST_RETRY_SECONDS = 3_600


def error_of_status(status: int, headers: Mapping[str, str], *, detail: str, param: str | None) -> UpstreamError:
    """Return the error of a status other than 200.

    `detail` goes into the log only; `param` is the one part of a provider's error that helps and gives nothing away.
    """
    match status:
        case 400 | 413 | 422:
            return UpstreamRejected(internal_detail=detail, param=param)
        case 401 | 402 | 403 | 404 | 405:
            return UpstreamMisconfigured(internal_detail=detail)
        case 408 | 504:
            return UpstreamTimeout(phase="its own time limit", internal_detail=detail)
        case 429:
            return UpstreamRateLimited(internal_detail=detail, retry_after_seconds=_retry_after(headers))
        case 503:
            return UpstreamUnreachable(internal_detail=detail)
        case 529:
            # Anthropic's number for being overloaded as a whole (platform.claude.com/docs/en/api/errors, 2026-11).
            return UpstreamOverloaded(internal_detail=detail, retry_after_seconds=_retry_after(headers))
        case _:
            return UpstreamError(internal_detail=detail)


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Return how long the provider asks to be left alone; None where it does not say, or says what cannot be read.

    RFC 9110, section 10.2.3: seconds, or a date. A date is that of the provider's own clock, which its answer names.
    """
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return min(int(value), _LONGEST_RETRY_SECONDS)
    until = parse_http_date_safe(value)
    if until is None:
        return None
    now = parse_http_date_safe(headers.get("date", ""))
    if now is None:
        now = SYSTEM_CLOCK.now_us() // 1_000_000
    return max(0, min(until - now, _LONGEST_RETRY_SECONDS))

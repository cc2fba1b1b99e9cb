"""What can go wrong with customers, keys and their limits."""

from common.errors import InvalidRequest, PaymentRequired, PermissionDenied, RateLimited
from common.money import format_usd
from keys.limits import LimitKind, LimitRefusal


class InsufficientScope(PermissionDenied):
    code = "insufficient_scope"
    summary = "The key lacks the scope that this operation needs."

    def __init__(self, *, scope: str) -> None:
        super().__init__(
            f"This key may not do that: it lacks the scope '{scope}'. Use a key that has it, or ask for one.",
            details={"required_scope": scope},
        )


class KeyAlreadyRevoked(InvalidRequest):
    code = "key_already_revoked"
    summary = "The key was revoked before; revocation is final."

    def __init__(self) -> None:
        super().__init__("The key has been revoked already; revocation is final. Issue a new key instead.")


class KeyInvalid(InvalidRequest):
    code = "invalid_key_settings"
    summary = "The key cannot be made with these settings."


class RateLimitExceeded(RateLimited):
    code = "rate_limit_exceeded"
    summary = "Requests, input tokens or output tokens a minute are used up; `Retry-After` says when the call fits."

    def __init__(self, refusal: LimitRefusal) -> None:
        unit = refusal.kind.value.replace("-", " ")
        super().__init__(
            f"Limit reached: {refusal.limit} {unit} a minute, set by the {refusal.source}. "
            f"Used {refusal.used}, asked for {refusal.requested}. Retry in {refusal.retry_after_seconds} s.",
            details=_details(refusal),
            retry_after_seconds=refusal.retry_after_seconds,
        )


class ConcurrencyExceeded(RateLimited):
    code = "concurrency_limit_exceeded"
    summary = "Too many calls in flight at once; one of them has to end first."

    def __init__(self, refusal: LimitRefusal) -> None:
        super().__init__(
            f"{refusal.used} calls are in flight; the {refusal.source} allows {refusal.limit} at once. "
            "Retry when one of them has ended.",
            details=_details(refusal),
            retry_after_seconds=refusal.retry_after_seconds,
        )


class RequestExceedsLimit(InvalidRequest):
    code = "request_exceeds_limit"
    summary = "One call asks for more tokens than a whole minute allows; waiting does not help."

    def __init__(self, refusal: LimitRefusal) -> None:
        unit = refusal.kind.value.replace("-", " ")
        way_out = "Lower max_completion_tokens" if refusal.kind is LimitKind.OUTPUT_TOKENS else "Send a shorter input"
        super().__init__(
            f"This call asks for {refusal.requested} {unit}; the {refusal.source} allows {refusal.limit} a minute. "
            f"{way_out}, or have the limit raised.",
            details=_details(refusal),
        )


class BudgetExceeded(PaymentRequired):
    code = "budget_exceeded"
    summary = "A spending budget of the day or month does not cover the call's most expensive outcome."

    def __init__(self, refusal: LimitRefusal) -> None:
        period = "day" if refusal.kind is LimitKind.SPEND_DAY else "month"
        super().__init__(
            f"The budget of this {period} does not cover the call: {format_usd(refusal.limit)} USD allowed by the "
            f"{refusal.source}, {format_usd(refusal.used)} used or held, and this call may cost up to "
            f"{format_usd(refusal.requested)}. It resets in {refusal.resets_in_seconds} s (UTC {period}); "
            "have it raised, or lower max_completion_tokens.",
            details=_details(refusal),
        )


def refusal_error(
    refusal: LimitRefusal,
) -> RateLimitExceeded | ConcurrencyExceeded | RequestExceedsLimit | BudgetExceeded:
    """Return the error that tells a caller about `refusal`."""
    if refusal.kind is LimitKind.CONCURRENCY:
        return ConcurrencyExceeded(refusal)
    if refusal.kind in (LimitKind.SPEND_DAY, LimitKind.SPEND_MONTH):
        return BudgetExceeded(refusal)
    if refusal.retry_after_seconds is None:
        return RequestExceedsLimit(refusal)
    return RateLimitExceeded(refusal)


def _details(refusal: LimitRefusal) -> dict[str, str | int | bool | list[str] | None]:
    is_money = refusal.kind in (LimitKind.SPEND_DAY, LimitKind.SPEND_MONTH)
    numbers = {"limit": refusal.limit, "used": refusal.used, "requested": refusal.requested}
    details: dict[str, str | int | bool | list[str] | None] = {
        "limit_name": refusal.kind.value,
        "owner": refusal.owner.partition(":")[0],
        "set_by": refusal.source,
    }
    for name, value in numbers.items():
        details[f"{name}_usd" if is_money else name] = format_usd(value) if is_money else value
    if refusal.resets_in_seconds is not None:
        details["resets_in_seconds"] = refusal.resets_in_seconds
    return details

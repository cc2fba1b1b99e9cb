"""What can go wrong with customers, keys and their limits."""

from collections.abc import Sequence

from common.errors import (
    AuthenticationFailed,
    Conflict,
    InvalidRequest,
    NotFound,
    PaymentRequired,
    PermissionDenied,
    RateLimited,
    TollkeeperError,
)
from common.money import format_usd
from keys.limit_values import LimitKind
from keys.limits import LimitRefusal

_LONGEST_AUTOMATIC_WAIT = 60


class AuthenticationThrottled(AuthenticationFailed):
    """Still a failed authentication, and handled as one everywhere; only told otherwise."""

    code = "too_many_failed_authentications"
    status = 429
    type = "rate_limit_error"
    # The key is wrong: the same call fails again, whenever it is repeated.
    retryable = False
    summary = "Too many calls without a valid key came from this address; a call with a valid key is still served."

    def __init__(self, *, retry_after_seconds: int) -> None:
        TollkeeperError.__init__(
            self,
            "Too many calls with a missing or invalid API key came from your address. Check the key that you send as "
            f"'Authorization: Bearer tk_...'; wrong ones are refused this way for {retry_after_seconds} s. A valid key "
            "is served at any time.",
            retry_after_seconds=retry_after_seconds,
        )


class TooManyRequests(RateLimited):
    code = "too_many_requests"
    summary = "Too many requests without a key came from this address; wait for `Retry-After`."

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__(
            f"Too many requests without a key came from your address. Retry in {retry_after_seconds} s.",
            retry_after_seconds=retry_after_seconds,
        )


class InsufficientScope(PermissionDenied):
    code = "insufficient_scope"
    summary = "The key lacks the scope that this operation needs."

    def __init__(self, *, scope: str) -> None:
        super().__init__(
            f"This key may not do that: it lacks the scope '{scope}'. Use a key that has it, or ask for one.",
            details={"required_scope": scope},
        )


class AddressNotAllowed(PermissionDenied):
    code = "address_not_allowed"
    summary = "The key may only be used from the networks on its list."

    def __init__(self, *, address: str | None) -> None:
        super().__init__(
            f"This key may not be used from your address ({address or 'unknown'}). Call from a network on its list, or "
            "have the list changed.",
            details={"address": address},
        )


class KeyNotFound(NotFound):
    code = "key_not_found"
    summary = "The customer has no key of this id."

    def __init__(self, *, key_id: str) -> None:
        super().__init__(f"There is no key '{key_id[:40]}'. Look for its id in GET /v1/keys.")


class KeyExceedsMaker(PermissionDenied):
    code = "key_exceeds_maker"
    summary = "A key cannot make, rotate or revoke one that may do more than itself; `details` says in what."

    def __init__(self, *, what: str, param: str | None = None) -> None:
        super().__init__(
            f"That key would be wider than the one that asks: {what}. Ask for less, or have an administrator do it.",
            param=param,
            details={"wider_in": param},
        )


class KeyNotRotatable(Conflict):
    code = "key_not_rotatable"
    summary = "The key has ended, or has a successor already."


class KeyAlreadyRevoked(InvalidRequest):
    code = "key_already_revoked"
    summary = "The key was revoked before; revocation is final."

    def __init__(self) -> None:
        super().__init__("The key has been revoked already; revocation is final. Issue a new key instead.")


class KeyInvalid(InvalidRequest):
    code = "invalid_key_settings"
    summary = "The key cannot be made with these settings."


class LimitRaiseInvalid(InvalidRequest):
    code = "invalid_limit_raise"
    summary = "The limit cannot be raised that way; `param` names the field."


class LimitRaiseEnded(InvalidRequest):
    code = "limit_raise_ended"
    summary = "The raise has ended before."

    def __init__(self) -> None:
        super().__init__("This raise has ended already. Make a new one if the limit has to be higher again.")


class FeatureUnknown(InvalidRequest):
    code = "unknown_feature"
    summary = "A flag that no code declares."

    def __init__(self, *, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no flag '{name[:60]}'. Name one of: {', '.join(known)}.",
            param="feature",
            details={"known": list(known)},
        )


class FeatureRuleInvalid(InvalidRequest):
    code = "invalid_feature_rule"
    summary = "The flag cannot be switched that way; `param` names the field."


class FeatureRuleEnded(InvalidRequest):
    code = "feature_rule_ended"
    summary = "The rule has ended before."

    def __init__(self) -> None:
        super().__init__("This rule has ended already. Make a new one to switch the flag again.")


class _TemporaryRefusal(RateLimited):
    """A limit that waiting cures."""

    def headers(self) -> dict[str, str]:
        """Return the headers; a client that would have to wait long is not told to repeat by itself.

        The openai SDKs wait no longer than a minute, and then fall back to waits of seconds of their own.
        """
        is_soon = self.retry_after_seconds is None or self.retry_after_seconds <= _LONGEST_AUTOMATIC_WAIT
        return {**super().headers(), "x-should-retry": "true" if is_soon else "false"}


class RateLimitExceeded(_TemporaryRefusal):
    code = "rate_limit_exceeded"
    summary = "Requests, input tokens or output tokens a minute are used up; `Retry-After` says when the call fits."

    def __init__(self, refusal: LimitRefusal) -> None:
        burst = "" if refusal.at_once == refusal.limit else f" (at most {refusal.at_once} at once)"
        super().__init__(
            f"Limit reached: {refusal.limit} {_unit(refusal)} a minute{burst}, set by the {refusal.source}. "
            f"Used {refusal.used}, asked for {refusal.requested}. Retry in {refusal.retry_after_seconds} s, "
            f"{_way_to_more(refusal)}.",
            details=_details(refusal),
            retry_after_seconds=refusal.retry_after_seconds,
        )


class ConcurrencyExceeded(_TemporaryRefusal):
    code = "concurrency_limit_exceeded"
    summary = "Too many calls in flight at once; one of them has to end first."

    def __init__(self, refusal: LimitRefusal) -> None:
        super().__init__(
            f"{refusal.used} calls are in flight; the {refusal.source} allows {refusal.limit} at once. "
            f"Retry when one of them has ended, {_way_to_more(refusal)}.",
            details=_details(refusal),
            retry_after_seconds=refusal.retry_after_seconds,
        )


class RequestExceedsLimit(InvalidRequest):
    code = "request_exceeds_limit"
    summary = "One call asks for more tokens than may ever be used at once; waiting does not help."

    def __init__(self, refusal: LimitRefusal) -> None:
        way_out = "Lower max_completion_tokens" if refusal.kind is LimitKind.OUTPUT_TOKENS else "Send a shorter input"
        burst = "" if refusal.at_once == refusal.limit else f" and {refusal.at_once} at once"
        super().__init__(
            f"This call asks for {refusal.requested} {_unit(refusal)}; the {refusal.source} allows {refusal.limit} "
            f"a minute{burst}. {way_out}, {_way_to_more(refusal)}.",
            details=_details(refusal),
        )


class LimitIsZero(PermissionDenied):
    code = "limit_is_zero"
    summary = "A limit of zero: this key may not make such calls at all; waiting does not help."

    def __init__(self, refusal: LimitRefusal) -> None:
        what = "calls in flight" if refusal.kind is LimitKind.CONCURRENCY else _unit(refusal)
        super().__init__(
            f"This key may not make calls of the class '{refusal.endpoint_class.value}': the {refusal.source} allows 0 "
            f"{what}. Use a key that may, {_way_to_more(refusal)}.",
            details=_details(refusal),
        )


class BudgetExceeded(_TemporaryRefusal):
    code = "budget_exceeded"
    summary = "The budget of the day or month does not cover the call's most expensive outcome; it resets by itself."

    def __init__(self, refusal: LimitRefusal) -> None:
        period = "day" if refusal.kind is LimitKind.SPEND_DAY else "month"
        super().__init__(
            f"The budget of this {period} does not cover the call: {_budget_numbers(refusal)}. It resets "
            f"in {refusal.resets_in_seconds} s (UTC {period}). Wait, lower max_completion_tokens, "
            f"{_way_to_more(refusal)}.",
            details=_details(refusal),
            retry_after_seconds=refusal.retry_after_seconds,
        )


class TotalBudgetExceeded(PaymentRequired):
    code = "total_budget_exceeded"
    summary = "The total budget does not cover the call; it never resets, so it has to be raised."

    def __init__(self, refusal: LimitRefusal) -> None:
        super().__init__(
            f"The total budget does not cover the call: {_budget_numbers(refusal)}. It does not reset: lower "
            f"max_completion_tokens, {_way_to_more(refusal)}.",
            details=_details(refusal),
        )


class BudgetTooSmall(PaymentRequired):
    code = "budget_too_small"
    summary = "One call may cost more than the whole budget of a day or month; waiting does not help."

    def __init__(self, refusal: LimitRefusal) -> None:
        period = "day" if refusal.kind is LimitKind.SPEND_DAY else "month"
        super().__init__(
            f"This call may cost more than the whole budget of a {period}: {_budget_numbers(refusal)}. Lower "
            f"max_completion_tokens, {_way_to_more(refusal)}.",
            details=_details(refusal),
        )


def refusal_error(refusal: LimitRefusal) -> TollkeeperError:
    """Return the error that tells a caller about `refusal`: 429 where waiting helps, 402 where money is missing."""
    if refusal.kind is LimitKind.SPEND_TOTAL:
        return TotalBudgetExceeded(refusal)
    if refusal.kind.is_money:
        return BudgetTooSmall(refusal) if refusal.retry_after_seconds is None else BudgetExceeded(refusal)
    if refusal.limit == 0:
        return LimitIsZero(refusal)
    if refusal.kind is LimitKind.CONCURRENCY:
        return ConcurrencyExceeded(refusal)
    if refusal.retry_after_seconds is None:
        return RequestExceedsLimit(refusal)
    return RateLimitExceeded(refusal)


def _unit(refusal: LimitRefusal) -> str:
    return f"{refusal.endpoint_class.value} {refusal.kind.value.replace('-', ' ')}"


def _budget_numbers(refusal: LimitRefusal) -> str:
    return (
        f"{format_usd(refusal.limit)} USD allowed by the {refusal.source}, {format_usd(refusal.used)} used or held, "
        f"and this call may cost up to {format_usd(refusal.requested)}"
    )


def _way_to_more(refusal: LimitRefusal) -> str:
    """Return who can raise the limit, as the end of a sentence."""
    whose = {
        "plan": "move to a larger plan",
        "customer": "have your limit raised",
        "maker": "have the limit of the key that made this one raised",
    }
    return f"or {whose.get(refusal.source, 'have the limit of this key raised')}"


def _details(refusal: LimitRefusal) -> dict[str, str | int | bool | list[str] | None]:
    numbers = {"limit": refusal.limit, "used": refusal.used, "requested": refusal.requested}
    details: dict[str, str | int | bool | list[str] | None] = {
        "limit_name": refusal.kind.value,
        "owner": refusal.owner,
        "set_by": refusal.source,
    }
    if refusal.kind.is_rate:
        details["endpoint_class"] = refusal.endpoint_class.value
        details["at_once"] = refusal.at_once
    for name, value in numbers.items():
        details[f"{name}_usd" if refusal.kind.is_money else name] = (
            format_usd(value) if refusal.kind.is_money else value
        )
    if refusal.resets_in_seconds is not None:
        details["resets_in_seconds"] = refusal.resets_in_seconds
    return details

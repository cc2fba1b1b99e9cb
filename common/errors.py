"""The one error tree.

Each class fixes a stable `code`, an HTTP status, whether repeating the same call can help, and a public
sentence that names the way out. What only operators may know goes into `internal_detail`, which is logged
under the request id and never returned. Apps subclass in their own `errors.py`.

The body has the shape of OpenAI's errors (https://platform.openai.com/docs/guides/error-codes, 2026-11), so
that the stock SDKs raise their matching exception by status.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

PublicValue = str | int | bool | None | list[str]


class TollkeeperError(Exception):
    """Base of everything that a customer or an admin may be told."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    retryable: ClassVar[bool] = True
    summary: ClassVar[str] = "Something failed on our side."

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        details: Mapping[str, PublicValue] | None = None,
        retry_after_seconds: int | None = None,
        internal_detail: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = dict(details or {})
        self.retry_after_seconds = retry_after_seconds
        self.internal_detail = internal_detail

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy by content: the constructors of subclasses ask for other things than they keep."""
        return _copy_error, (type(self), self.args, self.__dict__)

    def as_body(self, *, request_id: str | None) -> dict[str, object]:
        """Return the JSON body: OpenAI's shape, plus request id, numbers and the retry verdict."""
        error: dict[str, object] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
            "retryable": self.retryable,
        }
        if self.retry_after_seconds is not None:
            # Inside a stream, and on a WebSocket, there is no header to say it.
            error["retry_after_seconds"] = self.retry_after_seconds
        if self.details:
            error["details"] = self.details
        if request_id is not None:
            error["request_id"] = request_id
        return {"error": error}

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the retry verdict; `x-should-retry` is read by the openai SDKs."""
        found = {"x-should-retry": "true" if self.retryable else "false"}
        if self.retry_after_seconds is not None:
            found["retry-after"] = str(self.retry_after_seconds)
        return found


def _copy_error(kind: type[TollkeeperError], arguments: tuple[Any, ...], state: dict[str, Any]) -> TollkeeperError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class InternalError(TollkeeperError):
    """A fault of ours; the log has the details under the request id."""

    def __init__(self, *, internal_detail: str | None = None) -> None:
        super().__init__(
            "The server failed while handling this call. Retry; if it persists, send us the request id.",
            internal_detail=internal_detail,
        )


class InvalidRequest(TollkeeperError):
    code = "invalid_request"
    status = 400
    type = "invalid_request_error"
    retryable = False
    summary = "The request does not follow the documented shape; `param` names the place."


class AuthenticationFailed(TollkeeperError):
    code = "invalid_api_key"
    status = 401
    type = "authentication_error"
    retryable = False
    summary = "No valid API key. Unknown, malformed, expired and revoked keys answer alike."

    def __init__(self) -> None:
        # One sentence for every cause: what an outsider sees must not tell a revoked key from a guess.
        super().__init__(
            "The API key is missing or not valid. Send it as 'Authorization: Bearer tk_...'; "
            "keys are made and revoked by your administrator."
        )


class PermissionDenied(TollkeeperError):
    code = "permission_denied"
    status = 403
    type = "permission_error"
    retryable = False
    summary = "The key is valid but may not do this."


class NotFound(TollkeeperError):
    code = "not_found"
    status = 404
    type = "invalid_request_error"
    retryable = False
    summary = "No such thing, or not for this key."


class Conflict(TollkeeperError):
    code = "conflict"
    status = 409
    type = "invalid_request_error"
    retryable = False
    summary = "The request contradicts the present state."


class PaymentRequired(TollkeeperError):
    code = "payment_required"
    status = 402
    type = "insufficient_quota"
    retryable = False
    summary = "Waiting does not cure it: money or a budget has to be raised."


class RateLimited(TollkeeperError):
    code = "rate_limit_exceeded"
    status = 429
    type = "rate_limit_error"
    retryable = True
    summary = "A limit that refills by itself; wait for `Retry-After`."


class Unavailable(TollkeeperError):
    code = "service_unavailable"
    status = 503
    type = "service_unavailable_error"
    retryable = True
    summary = "The platform cannot take the call now; nothing was charged."


def all_error_classes() -> list[type[TollkeeperError]]:
    """Return every class of the tree that is imported, parents first (for the generated reference)."""
    found: list[type[TollkeeperError]] = []
    queue: list[type[TollkeeperError]] = [TollkeeperError]
    while queue:
        current = queue.pop(0)
        found.append(current)
        queue.extend(sorted(current.__subclasses__(), key=lambda c: c.__name__))
    return found

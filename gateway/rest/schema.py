"""How drf-spectacular describes what is ours: the key, the scopes, and errors by the tree they come from."""

from collections.abc import Iterable
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from common.errors import AuthenticationFailed, InternalError, InvalidRequest, TollkeeperError
from gateway.errors import ApiVersionUnknown, BodyInvalid, BodyTooLarge, ParameterUnknown
from gateway.kept_answers import Repeats
from gateway.rest.once import ERRORS, HEADER, REPLAYED_HEADER
from keys.errors import AddressNotAllowed, AuthenticationThrottled, InsufficientScope, LimitIsZero, RateLimitExceeded

# What any endpoint can answer that asks for a key.
COMMON_ERRORS: tuple[type[TollkeeperError], ...] = (
    AuthenticationFailed,
    AuthenticationThrottled,
    AddressNotAllowed,
    ApiVersionUnknown,
    InsufficientScope,
    InternalError,
    LimitIsZero,
    RateLimitExceeded,
)
# What any body can be answered with.
_BODY_ERRORS = (BodyInvalid, BodyTooLarge, InvalidRequest, ParameterUnknown)
VERSION_PARAMETER = {
    "name": "API-Version",
    "in": "header",
    "required": False,
    "description": "A date that GET /v1/changelog lists, for this call. Left out: the one that the key is pinned to.",
    "schema": {"type": "string", "format": "date"},
}
VERSION_HEADERS = {
    "api-version": "The date of the API that this answer follows.",
    "deprecation": "Since when that date, the key or the prompt's version is deprecated (RFC 9745).",
    "sunset": "From when on it may be refused (RFC 8594).",
}
_HEADERS = {
    "x-request-id": {"description": "Names this answer in the server's log.", "schema": {"type": "string"}},
    **{name: {"description": text, "schema": {"type": "string"}} for name, text in VERSION_HEADERS.items()},
}

REPLAYED = "true: the answer of the first call with this Idempotency-Key; nothing was done or charged again."
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Send the same call again under the same key, within 24 hours, to get the first one's answer.",
}


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """The security scheme of our authentication; known to drf-spectacular once this module is imported."""

    target_class = "gateway.rest.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the scheme of the bearer key."""
        return {"type": "http", "scheme": "bearer", "description": "An API key, tk_live_... or tk_test_..."}


class CustomerSchema(AutoSchema):
    """Adds what every `CustomerView` declares: its scope, its own errors, and the request id on each answer."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Return the operation, or None for one that is left out of the document."""
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        # Any, because base declares both attributes and reads this module.
        view: Any = self.view
        operation["x-required-scope"] = view.required_scope.value
        operation["description"] = f"{operation['description']} Needs the scope `{view.required_scope}`."
        operation["parameters"] = [*operation.get("parameters", ()), VERSION_PARAMETER]
        errors = (*COMMON_ERRORS, *view.errors)
        if self.method == "POST":
            errors += _BODY_ERRORS
        if self.method == "POST" and view.repeats is not Repeats.HARMLESS:
            errors += ERRORS
            operation["parameters"].append(IDEMPOTENCY_KEY)
            for answer in operation["responses"].values():
                answer["headers"] = {REPLAYED_HEADER: {"schema": {"type": "string"}, "description": REPLAYED}}
        operation["responses"].update(describe_errors(errors))
        for answer in operation["responses"].values():
            answer["headers"] = {**_HEADERS, **answer.get("headers", {})}
            answer["description"] = answer["description"] or "What was asked for."
        return operation


def describe_errors(errors: Iterable[type[TollkeeperError]]) -> dict[str, Any]:
    """Return OpenAPI's responses for the given errors: one a status, with its codes."""
    by_status: dict[int, dict[str, type[TollkeeperError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, {}).setdefault(error.code, error)
    return {
        str(status): {
            "description": "\n".join(f"- `{code}`: {found[code].summary}" for code in sorted(found)),
            "x-error-codes": sorted(found),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, found in sorted(by_status.items())
    }

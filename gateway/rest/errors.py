"""Every failure of a REST endpoint in the one error shape."""

import logging
from typing import Any

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from common.errors import (
    AuthenticationFailed,
    InternalError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    TollkeeperError,
)
from common.ids import make_id
from gateway.errors import BodyInvalid, MethodNotAllowed

logger = logging.getLogger(__name__)

_REQUEST_ID = "_tollkeeper_request_id"


def render_exception(exception: Exception, context: dict[str, Any]) -> Response:
    """Return the answer of an exception; a fault of ours is logged under the request id that the answer carries."""
    request_id = id_of_request(context.get("request"))
    error = _as_ours(exception, context)
    where = type(context.get("view")).__name__
    if error.status >= 500:
        logger.error("%s: %s failed: %s", request_id, where, error.internal_detail or error.code, exc_info=exception)
    elif error.internal_detail:
        logger.info("%s: %s refused: %s", request_id, where, error.internal_detail)
    headers = {"x-request-id": request_id, **error.headers()}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = str(error.details["allowed"])
    return Response(error.as_body(request_id=request_id), status=error.status, headers=headers)


def id_of_request(request: Any) -> str:
    """Return the id that a request's answer carries: one, whoever asks first."""
    django_request = getattr(request, "_request", request)
    known: str | None = getattr(django_request, _REQUEST_ID, None)
    if known is None:
        known = make_id("req")
        if django_request is not None:
            setattr(django_request, _REQUEST_ID, known)
    return known


def _as_ours(exception: Exception, context: dict[str, Any]) -> TollkeeperError:
    match exception:
        case TollkeeperError():
            return exception
        case Http404() | exceptions.NotFound():
            return NotFound("There is no such thing, or not for this key.")
        case exceptions.AuthenticationFailed() | exceptions.NotAuthenticated():
            return AuthenticationFailed()
        case DjangoPermissionDenied() | exceptions.PermissionDenied():
            return PermissionDenied("This key may not do that.")
        case exceptions.MethodNotAllowed():
            view = context.get("view")
            return MethodNotAllowed(
                method=context["request"].method, allowed=", ".join(view.allowed_methods) if view else ""
            )
        case exceptions.ParseError() | exceptions.UnsupportedMediaType():
            return BodyInvalid(f"The body cannot be read: {exception.detail}")
        case exceptions.ValidationError():
            return _of_validation(exception.detail)
        case exceptions.Throttled():
            return RateLimited("Too many requests.", retry_after_seconds=int(getattr(exception, "wait", None) or 1))
        case BadRequest() | SuspiciousOperation():
            # Django's sentences here are written for its log: they quote hosts and headers.
            return InvalidRequest("The request cannot be read.", internal_detail=repr(exception))
        case _:
            return InternalError(internal_detail=repr(exception))


def _of_validation(detail: Any) -> InvalidRequest:
    """Return the first problem of a serializer's errors, with the field's name as `param`."""
    if isinstance(detail, dict) and detail:
        name, problems = next(iter(detail.items()))
        first = problems[0] if isinstance(problems, list) and problems else problems
        return InvalidRequest(f"'{name}': {first}", param=str(name))
    first = detail[0] if isinstance(detail, list) and detail else detail
    return InvalidRequest(str(first))

"""What all REST endpoints of customers share: JSON whatever is asked for, a request id, the one error shape."""

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from common.errors import TollkeeperError
from gateway.kept_answers import Repeats
from gateway.limit_headers import limit_lines
from gateway.rest.authentication import principal_of
from gateway.rest.bodies import JsonBody
from gateway.rest.counting import take_request
from gateway.rest.errors import id_of_request, render_exception
from gateway.rest.once import HEADER, post_once
from gateway.rest.schema import CustomerSchema
from gateway.rest.versioning import find_shape, version_headers
from gateway.transports.rendering import deprecation_headers, split_lines
from gateway.versions import Document, OlderShape
from keys.limits import LimitReading
from keys.principals import Principal
from keys.scopes import Scope


class JsonOnly(BaseContentNegotiation):
    """Answers JSON without a look at Accept or ?format=: there is nothing else, and OpenAI's API does the same."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Return the one parser."""
        return next(iter(parsers))

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the one renderer."""
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class RequestIds:
    """A mixin of views: every answer carries an id. Errors come with the id under which they were logged."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the request id to an answer that has none, and keep caches out."""
        response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        response.headers.setdefault("x-request-id", id_of_request(request))
        response.headers.setdefault("cache-control", "no-store")
        return response


class CustomerView(RequestIds, APIView):
    """Base of the endpoints that a key opens. A subclass names the scope that it needs and the errors of its own."""

    required_scope: ClassVar[Scope]
    errors: ClassVar[tuple[type[TollkeeperError], ...]] = ()

    content_negotiation_class = JsonOnly
    parser_classes = [JsonBody]
    http_method_names = ["get", "head"]
    # How a POST with an Idempotency-Key is kept from happening twice.
    repeats: ClassVar[Repeats] = Repeats.IN_TRANSACTION
    schema = CustomerSchema()
    # As they stand after this call was counted.
    limits: tuple[LimitReading, ...] = ()
    # How this caller's answers differ from the newest date of the API; None: not at all.
    older_shape: OlderShape | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, check the scope, and count the call among those of the control plane."""
        super().initial(request, *args, **kwargs)
        self.older_shape = find_shape(request, principal_of(request))
        answer = take_request(principal_of(request), request_id=id_of_request(request), operation=type(self).__name__)
        self.limits = answer.limits
        if answer.error is not None:
            raise answer.error
        if request.method == "POST" and HEADER in request.headers and self.repeats is not Repeats.HARMLESS:
            # The handler is looked up after this: so the key counts for whatever view there will be.
            handler = getattr(self, "post", self.http_method_not_allowed)
            once = partial(post_once, handler, request_id=id_of_request(request), repeats=self.repeats)
            vars(self)["post"] = once

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the limits to every answer, refusals included; tell the holder of a rotated key that it will end."""
        response = super().finalize_response(request, response, *args, **kwargs)
        for header, value in split_lines(limit_lines(self.limits)):
            response.headers[header.decode()] = value.decode()
        # Not `request.auth`: after a failed authentication asking for it would fail once more.
        principal = vars(request).get("_auth")
        if isinstance(principal, Principal):
            for name, text in deprecation_headers(principal):
                response.headers.setdefault(name, text)
            for name, text in version_headers(self.older_shape):
                response.headers.setdefault(name, text)
        return response

    def translate(self, document: Document, body: dict[str, Any]) -> dict[str, Any]:
        """Return an answer, or a part of one, in the date of the API that the caller wants."""
        return body if self.older_shape is None else self.older_shape.translate(document, body)

    def get_exception_handler(self) -> Any:
        """Return the renderer of the one error shape."""
        return render_exception

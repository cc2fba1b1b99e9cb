"""Bodies of the control plane, read like those of calls: bounded, and with the same reader."""

from collections.abc import Mapping
from typing import IO, Any, Protocol

import orjson
from django.conf import settings
from rest_framework.parsers import BaseParser

from gateway.errors import BodyInvalid, BodyTooLarge


class Readable(Protocol):
    """A request, or its body as a file."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes."""


def read_bounded(stream: Readable) -> bytes:
    """Return the bytes of a body. Raises BodyTooLarge.

    Read as a stream, because Django's `body` has a bound of its own, which is not that of calls.
    """
    limit = settings.ENVIRONMENT.max_body_bytes
    body = stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(limit_bytes=limit)
    return body


class JsonBody(BaseParser):
    """JSON. Python's own reader, which is Django REST framework's, fails at some thousand brackets."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the value of a body. Raises BodyTooLarge or BodyInvalid."""
        try:
            return orjson.loads(read_bounded(stream))
        except orjson.JSONDecodeError as error:
            raise BodyInvalid(f"The body is not valid JSON: {error}.") from None

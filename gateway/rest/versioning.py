"""In which date of the API a caller of the control plane is answered: as on the data plane."""

from collections.abc import Iterator

from django.db import connection, transaction
from rest_framework.request import Request

from common.clock import SYSTEM_CLOCK
from common.sql import Sql
from gateway.transports.rendering import split_lines
from gateway.versions import NEWEST, VERSION_HEADER, OlderShape, find_older_shape
from keys.pinning import pin_new_keys
from keys.principals import Principal


def find_shape(request: Request, principal: Principal) -> OlderShape | None:
    """Return how answers to the caller differ from the newest; a key that has not called before is pinned to that.

    Raises ApiVersionUnknown.
    """
    if not principal.api_version:
        with transaction.atomic():
            pin_new_keys(Sql(connection), [principal.key_id], NEWEST)
    return find_older_shape(request.headers.get(VERSION_HEADER.decode()), principal, SYSTEM_CLOCK.now_us())


def version_headers(older: OlderShape | None) -> Iterator[tuple[str, str]]:
    """Return the headers that name the date, and what becomes of it."""
    yield VERSION_HEADER.decode(), NEWEST if older is None else older.version.name
    if older is not None:
        for name, text in split_lines(older.deprecation_lines):
            yield name.decode(), text.decode()

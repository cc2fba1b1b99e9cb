"""How long a provider asks to be left alone, in each form that HTTP has for it."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from gateway.errors import UpstreamOverloaded, UpstreamRateLimited
from gateway.upstreams.statuses import error_of_status

NOON = "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "999999999999"}, 3_600),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:07 GMT", "date": NOON}, 7),
        # The two forms of before 1994 that RFC 9110 still has read.
        ({"retry-after": "Saturday, 21-Nov-26 12:00:07 GMT", "date": NOON}, 7),
        ({"retry-after": "Sat Nov 21 12:00:07 2026", "date": NOON}, 7),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:00 GMT", "date": NOON}, 3_600),
        ({"retry-after": NOON, "date": NOON}, 0),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:00 GMT", "date": NOON}, 0),
        # By our own clock where the answer names none: this has passed, that has not.
        ({"retry-after": "Sat, 01 Jan 2000 00:00:00 GMT"}, 0),
        ({"retry-after": format_datetime(datetime(2199, 1, 1, tzinfo=UTC), usegmt=True), "date": "?"}, 3_600),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-7"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Sat, 41 Nov 2026 12:00:00 GMT", "date": NOON}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize(("status", "error"), [(429, UpstreamRateLimited), (529, UpstreamOverloaded)])
def test_the_pause_that_a_provider_asks_for(
    status: int, error: type[Exception], headers: dict[str, str], seconds: int | None
) -> None:
    found = error_of_status(status, headers, detail="x", param=None)
    assert type(found) is error
    assert found.asked_seconds == seconds

import pytest

from gateway.caching.directives import NO_DIRECTIVES, CacheControl, read_cache_control
from gateway.errors import CacheControlInvalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", NO_DIRECTIVES),
        ("max-age=60", CacheControl(max_age_seconds=60)),
        (' Max-Age="60" , NO-STORE', CacheControl(max_age_seconds=60, no_store=True)),
        ("no-cache", CacheControl(no_cache=True)),
        # An answer of no age is a fresh one.
        ("max-age=0", CacheControl(max_age_seconds=0, no_cache=True)),
        ("only-if-cached, max-age=5", CacheControl(max_age_seconds=5, only_if_cached=True)),
        # RFC 9111, section 5.2.3: what is not known is passed over.
        ("no-transform, max-stale=5, min-fresh=1", NO_DIRECTIVES),
    ],
)
def test_directives_are_read_as_http_means_them(text: str, expected: CacheControl) -> None:
    assert read_cache_control(text) == expected


@pytest.mark.parametrize(
    "text", ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=²", "only-if-cached, no-store"]
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(CacheControlInvalid):
        read_cache_control(text)

"""What a caller says about cached answers: `Cache-Control` of its request (RFC 9111, section 5.2.1)."""

from functools import lru_cache
from typing import NamedTuple

from gateway.errors import CacheControlInvalid

_MOST_DIGITS = 10


class CacheControl(NamedTuple):
    """The directives that mean something here; all others are passed over, as section 5.2.3 asks."""

    # Give no earlier answer; this one may be kept.
    no_cache: bool = False
    # Neither give an earlier answer nor keep this one.
    no_store: bool = False
    # Answer from the cache or not at all.
    only_if_cached: bool = False
    # How old an answer may be. None: as the model or the prompt says.
    max_age_seconds: int | None = None


NO_DIRECTIVES = CacheControl()


# Callers send the same few texts over and over.
@lru_cache(maxsize=256)
def read_cache_control(text: str) -> CacheControl:
    """Return the directives of a header or message. Raises CacheControlInvalid for what cannot be meant."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name:
            found[name.strip().lower()] = value.strip().strip('"')
    max_age: int | None = None
    if "max-age" in found:
        seconds = found["max-age"]
        if not (seconds.isascii() and seconds.isdigit()):
            raise CacheControlInvalid("'max-age' must be a number of seconds, e.g. Cache-Control: max-age=3600.")
        max_age = int(seconds[:_MOST_DIGITS])
    control = CacheControl(
        # An answer of no age at all is a fresh one.
        no_cache="no-cache" in found or max_age == 0,
        no_store="no-store" in found,
        only_if_cached="only-if-cached" in found,
        max_age_seconds=max_age,
    )
    if control.only_if_cached and (control.no_cache or control.no_store):
        raise CacheControlInvalid(
            "'only-if-cached' beside 'no-cache' or 'no-store' leaves no answer. Send one of them."
        )
    return control

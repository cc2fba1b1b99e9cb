"""Failed attempts to get in, counted per caller's address (django-ratelimit, in the cache that all processes share).

Only failures are counted, and only after they failed: a right key pays nothing for it, and gets in whatever its
address did before, so nobody can lock a customer out by failing on purpose from the same network. What an attacker
meets is 429 in place of 401; a guess was hopeless before (160 bits), now it is also cheap to refuse and seen.
"""

import logging
from enum import StrEnum

from django.conf import settings
from django.http import HttpRequest
from django_ratelimit.core import get_usage

from common.addresses import network_of

logger = logging.getLogger(__name__)


class AttemptGroup(StrEnum):
    """What is counted apart."""

    API_KEY = "api-key"
    LOGIN = "login"
    ANONYMOUS = "anonymous"


def count_attempt(group: AttemptGroup, address: str | None) -> int | None:
    """Count one attempt; return the seconds to wait once there are too many a minute from this address, else None."""
    return _use(group, address, is_counted=True)


def find_wait(group: AttemptGroup, address: str | None) -> int | None:
    """Return the seconds to wait if this address has used up its attempts, without counting one."""
    return _use(group, address, is_counted=False)


def _use(group: AttemptGroup, address: str | None, *, is_counted: bool) -> int | None:
    limit = settings.FAILED_ATTEMPTS_PER_MINUTE if group is not AttemptGroup.ANONYMOUS else _anonymous_limit()
    if limit == 0:
        return None
    network = network_of(address)

    def key(_group: str, _request: HttpRequest | None) -> str:
        return network

    try:
        usage = get_usage(None, group=f"tollkeeper.{group}", key=key, rate=f"{limit}/m", increment=is_counted)
    except Exception:
        # Without the cache nothing is counted; what was refused stays refused, what is right still gets in.
        logger.warning("the cache does not answer: failed attempts are not counted", exc_info=True)
        return None
    # Looked at and not counted, the limit is reached when nothing is left of it.
    if usage is None or usage["time_left"] < 0 or usage["count"] + (not is_counted) <= usage["limit"]:
        return None
    return max(1, int(usage["time_left"]))


def _anonymous_limit() -> int:
    return int(settings.ANONYMOUS_REQUESTS_PER_MINUTE)

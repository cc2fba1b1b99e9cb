"""What a call without a valid key is told: 401, and 429 once its address has failed too often."""

import asyncio

from common.errors import AuthenticationFailed, TollkeeperError
from keys.attempts import AttemptGroup, count_attempt
from keys.errors import AuthenticationThrottled


def refuse_authentication(address: str | None) -> AuthenticationFailed:
    """Count a failed authentication and return the error to answer it with."""
    wait_seconds = count_attempt(AttemptGroup.API_KEY, address)
    return AuthenticationFailed() if wait_seconds is None else AuthenticationThrottled(retry_after_seconds=wait_seconds)


async def count_failure(error: TollkeeperError, address: str | None) -> TollkeeperError:
    """Return what to answer with instead of `error`: a failed authentication is counted, anything else stays.

    In a thread: the cache may be Redis, and its client blocks.
    """
    if not isinstance(error, AuthenticationFailed):
        return error
    return await asyncio.to_thread(refuse_authentication, address)

"""token -> Principal, from a snapshot where there is one. Admission has the last word on whether it still holds."""

from common.errors import AuthenticationFailed, TollkeeperError
from gateway.admission.commands import FindPrincipal
from gateway.calls import Exchange
from gateway.runtime import Runtime
from keys.errors import InsufficientScope
from keys.principals import Principal, hashes_of
from keys.tokens import is_well_formed


async def authenticate(runtime: Runtime, exchange: Exchange) -> None:
    """Fill in the principal.

    Raises AuthenticationFailed for a key that is unknown, malformed, expired or revoked, or whose customer is
    suspended; InsufficientScope for a key that may not call the operation.
    """
    principal = runtime.find_cached_principal(exchange.token)
    exchange.principal_is_cached = principal is not None
    if principal is None or not principal.is_active(runtime.clerk.now_us):
        principal = await look_up(runtime, exchange.token)
        exchange.principal_is_cached = False
    if principal is None or not principal.is_active(runtime.clerk.now_us):
        raise AuthenticationFailed
    exchange.principal = principal
    if exchange.operation.scope not in principal.scopes:
        raise InsufficientScope(scope=exchange.operation.scope)


async def look_up(runtime: Runtime, token: str) -> Principal | None:
    """Return the key's owner as the database knows it now, and keep the snapshot.

    A malformed token is looked up like any other, so that the time of the answer tells nothing about it.
    """
    found = await runtime.clerk.submit(FindPrincipal(hashes=hashes_of(token, runtime.peppers)))
    principal = found.principal if is_well_formed(token) else None
    runtime.keep_principal(token, principal)
    return principal


async def confirm_refusal(runtime: Runtime, exchange: Exchange, error: TollkeeperError) -> TollkeeperError:
    """Return the error to answer with when a call is refused before admission saw it.

    The refusal was found with a snapshot of the key: if the key has ended since, that is the answer.
    """
    if exchange.principal is None or not exchange.principal_is_cached or exchange.admitted is not None:
        return error
    try:
        principal = await look_up(runtime, exchange.token)
    except TollkeeperError:
        return error
    if principal is None or not principal.is_active(runtime.clerk.now_us):
        return AuthenticationFailed()
    return error

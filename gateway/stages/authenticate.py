"""token -> Principal, from a snapshot where there is one. Admission has the last word on whether it still holds."""

from common.errors import AuthenticationFailed, TollkeeperError
from gateway.admission.commands import FindPrincipal
from gateway.calls import Exchange
from gateway.runtime import Runtime
from gateway.versions import UP_TO_DATE, VERSION_HEADER, find_older_shape
from keys.errors import AddressNotAllowed, InsufficientScope
from keys.principals import Principal, hashes_of, holds_key
from keys.tokens import is_well_formed


async def authenticate(runtime: Runtime, exchange: Exchange) -> None:
    """Fill in the principal.

    Raises AuthenticationFailed for a key that is unknown, malformed, expired or revoked, or whose customer is
    suspended; AddressNotAllowed or InsufficientScope for one that may not call from there, or not the operation;
    ApiVersionUnknown.
    """
    principal = runtime.find_cached_principal(exchange.token)
    exchange.principal_is_cached = principal is not None
    if principal is None or not principal.is_active(runtime.clerk.now_us):
        principal = await look_up(runtime, exchange.token)
        exchange.principal_is_cached = False
    accept_principal(runtime, exchange, principal)


def accept_principal(runtime: Runtime, exchange: Exchange, principal: Principal | None) -> None:
    """Let the call go on for `principal`, the snapshot that counts from here on.

    Raises AuthenticationFailed, AddressNotAllowed, InsufficientScope or ApiVersionUnknown.
    """
    if principal is None or not principal.is_active(runtime.clerk.now_us):
        raise AuthenticationFailed
    exchange.principal = principal
    # What the platform asks itself comes from no address, and nobody has shown the key.
    if not exchange.operation.is_check and not principal.may_call_from(exchange.client_address):
        raise AddressNotAllowed(address=exchange.client_address)
    if exchange.operation.scope not in principal.scopes:
        raise InsufficientScope(scope=exchange.operation.scope)
    asked = exchange.headers.get(VERSION_HEADER)
    if asked is not None or principal.api_version not in UP_TO_DATE:
        given = None if asked is None else asked.decode("latin-1")
        exchange.older_shape = find_older_shape(given, principal, runtime.clerk.now_us)


async def authenticate_afresh(runtime: Runtime, token: str, client_address: str | None) -> Principal:
    """Return the key's owner as the database knows it now, where no admission follows that would ask again.

    Raises AuthenticationFailed or AddressNotAllowed.
    """
    principal = await look_up(runtime, token)
    if principal is None or not principal.is_active(runtime.clerk.now_us):
        raise AuthenticationFailed
    if not principal.may_call_from(client_address):
        raise AddressNotAllowed(address=client_address)
    return principal


async def look_up(runtime: Runtime, token: str) -> Principal | None:
    """Return the key's owner as the database knows it now, and keep the snapshot.

    A malformed token is looked up like any other, so that the time of the answer tells nothing about it.
    """
    line_id = runtime.find_borrowed_line(token)
    if line_id is not None:
        principal = (await runtime.clerk.submit(FindPrincipal(line_id=line_id))).principal
        runtime.keep_principal(token, principal)
        return principal
    hashes = hashes_of(token, runtime.peppers)
    found = (await runtime.clerk.submit(FindPrincipal(hashes=hashes))).principal
    principal = found if found is not None and holds_key(found, hashes) and is_well_formed(token) else None
    known = runtime.find_cached_principal(token)
    if known is not None and principal is not None and known.row == principal.row:
        principal = known  # one object for one key
    runtime.keep_principal(token, principal)
    return principal


async def refresh_snapshots(runtime: Runtime, exchange: Exchange, generation: int) -> bool:
    """Return whether key or catalogue have moved since a call was refused by snapshots of them.

    `generation` is the catalogue's before the refusal. Looking the key up is a batch of the clerk, which refreshes the
    catalogue as well. A key that had just been looked up needs no second look.
    """
    known = exchange.principal
    if known is None or not exchange.principal_is_cached:
        return False
    try:
        found = await look_up(runtime, exchange.token)
    except TollkeeperError:
        return False  # the refusal stands: it is true of some moment, and nothing better is known
    return found is None or found.row != known.row or runtime.clerk.catalogue.generation != generation

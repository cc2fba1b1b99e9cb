"""Where a request comes from: the socket's peer, or what the trusted proxy in front says."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest

# A customer of an access provider has a whole /64: what counts attempts counts it as one.
_IPV6_PREFIX_LENGTH = 64


def address_of_request(request: HttpRequest) -> str | None:
    """Return the caller's address; see `find_caller_address`."""
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", ""))
    return find_caller_address(str(request.META.get("REMOTE_ADDR", "")), forwarded)


def find_caller_address(peer: str, forwarded: str) -> str | None:
    """Return who called: the socket's peer, or what trusted proxies say of it in X-Forwarded-For.

    With TRUSTED_PROXIES the peer must be one of them, and the caller is the right-most hop that is none of them: what
    stands left of it was written by the caller itself. BEHIND_TLS_PROXY alone trusts the peer, whoever it is, for the
    last hop. None where there is no valid address (a Unix socket, a proxy that sends nonsense).
    """
    if not forwarded:
        return valid_address(peer)
    proxies = settings.ENVIRONMENT.trusted_proxies
    if not proxies and not settings.ENVIRONMENT.behind_tls_proxy:
        return valid_address(peer)
    hops = [hop.strip() for hop in forwarded.split(",")]
    if not proxies:
        return valid_address(hops[-1])
    address = valid_address(peer)
    while hops and address is not None and _is_among(address, proxies):
        address = valid_address(hops.pop())
    return address


def _is_among(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    found = ipaddress.ip_address(address)
    return any(found in network for network in networks)


@lru_cache(maxsize=4096)
def valid_address(text: str) -> str | None:
    """Return an address in its one canonical form, or None."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def network_of(address: str | None) -> str:
    """Return what stands for one caller where attempts are counted: an IPv4 address, an IPv6 /64, or "unknown"."""
    if address is None or valid_address(address) is None:
        return "unknown"
    found = ipaddress.ip_address(address)
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network(f"{found}/{_IPV6_PREFIX_LENGTH}", strict=False))

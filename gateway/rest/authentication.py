"""API keys for Django REST framework: the same principals and scopes as on the data plane."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from common.addresses import address_of_request
from common.clock import SYSTEM_CLOCK
from common.sql import Sql
from gateway.abuse import refuse_authentication
from keys.errors import AddressNotAllowed, InsufficientScope
from keys.principals import Principal, hashes_of, holds_key, read_principals_by_hash
from keys.tokens import is_well_formed

if TYPE_CHECKING:  # views read this module while they are being imported
    from rest_framework.views import APIView


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What Django REST framework calls a user: whoever holds a valid key."""

    principal: Principal
    is_authenticated: bool = True


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer tk_...`; unknown, malformed, expired and revoked keys are answered alike."""

    def authenticate(self, request: Request) -> tuple[Caller, Principal]:
        """Return the caller. Raises AuthenticationFailed, also for a request without a key."""
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        principal = _find_principal(token.strip()) if scheme.lower() == "bearer" else None
        if principal is None or not principal.is_active(SYSTEM_CLOCK.now_us()):
            raise refuse_authentication(address_of(request))
        if not principal.may_call_from(address_of(request)):
            raise AddressNotAllowed(address=address_of(request))
        return Caller(principal=principal), principal

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge that makes refusals 401."""
        return "Bearer"


def _find_principal(token: str) -> Principal | None:
    # A malformed token is looked up like any other: the time of the answer tells nothing about it.
    hashes = hashes_of(token, settings.KEY_PEPPERS)
    found = next(iter(read_principals_by_hash(Sql(connection), hashes).values()), None)
    return found if found is not None and holds_key(found, hashes) and is_well_formed(token) else None


class HasScope(BasePermission):
    """Admits a key that carries the view's `required_scope`. A view that names none admits nobody."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Return True, or raise InsufficientScope with the scope's name."""
        scope: Any = getattr(view, "required_scope", None)
        if scope is None:
            return False
        if scope not in principal_of(request).scopes:
            raise InsufficientScope(scope=scope)
        return True


def address_of(request: Request) -> str | None:
    """Return where the caller calls from."""
    return address_of_request(request._request)  # noqa: SLF001 - Django's own request


def principal_of(request: Request) -> Principal:
    """Return the caller's principal."""
    principal = request.auth
    assert isinstance(principal, Principal)
    return principal

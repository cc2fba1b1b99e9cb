"""What customers do with their own keys: through a key that may, and never beyond that key's own rights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from keys.audit import key_actor
from keys.errors import KeyExceedsMaker, KeyNotFound
from keys.issuing import IssuedKey, issue_key, parse_networks, revoke_key, rotate_key
from keys.limits import LIMIT_COLUMNS
from keys.lines import line_of
from keys.models import ApiKey, KeyEnvironment
from keys.narrowing import Rights, check_not_wider, rights_of, rights_of_principal
from keys.principals import Principal, key_counters

# How many keys may stand above one: each is one more row of counters that its calls take from.
MAX_MAKERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A key that a customer asks for. None: as the asking key has it."""

    name: str
    environment: KeyEnvironment | None = None
    scopes: Sequence[str] | None = None
    allowed_models: Sequence[str] | None = None
    allowed_prompts: Sequence[str] | None = None
    allowed_networks: Sequence[str] | None = None
    expires_at: datetime | None = None
    limits: Mapping[str, int | None] | None = None


def list_keys(principal: Principal, *, state: str | None = None) -> list[ApiKey]:
    """Return the customer's keys, newest first; `state` as of `ApiKey.state`."""
    keys = _with_relatives().filter(customer_id=principal.customer_id).order_by("-created_at", "-pk")
    return [key for key in keys if state is None or key.state() == state]


def get_key(principal: Principal, public_id: str) -> ApiKey:
    """Return a key of the customer. Raises KeyNotFound, also for another customer's."""
    key = _with_relatives().filter(customer_id=principal.customer_id, public_id=public_id).first()
    if key is None:
        raise KeyNotFound(key_id=public_id)
    return key


def _with_relatives() -> QuerySet[ApiKey]:
    return ApiKey.objects.select_related("maker", "successor")


def make_own_key(principal: Principal, wanted: KeyRequest, *, address: str | None) -> IssuedKey:
    """Issue a key of the same customer, at most as wide as the asking one, whose limits its calls count against too.

    Raises KeyExceedsMaker with the right that is too wide or for one generation too many, KeyInvalid for settings that
    make no sense.
    """
    if principal.maker_count >= MAX_MAKERS:
        raise KeyExceedsMaker(what=f"{MAX_MAKERS} keys stand above the asking one already, the most that there may be")
    own = rights_of_principal(principal)
    # Without a word it gets what may call, not what may make further keys.
    rights = Rights(
        environment=wanted.environment or own.environment,
        scopes=[s for s in own.scopes if s != "keys:manage"] if wanted.scopes is None else wanted.scopes,
        allowed_models=own.allowed_models if wanted.allowed_models is None else wanted.allowed_models,
        allowed_prompts=own.allowed_prompts if wanted.allowed_prompts is None else wanted.allowed_prompts,
        allowed_networks=own.allowed_networks
        if wanted.allowed_networks is None
        else parse_networks(wanted.allowed_networks),
        expires_at=wanted.expires_at or own.expires_at,
        limits={
            column: own.limits[column] if (wanted.limits or {}).get(column) is None else (wanted.limits or {})[column]
            for column in LIMIT_COLUMNS
        },
    )
    check_not_wider(rights, own)
    return issue_key(
        customer_id=principal.customer_id,
        name=wanted.name,
        author=f"key {principal.key_prefix}",
        environment=KeyEnvironment(rights.environment),
        scopes=rights.scopes,
        allowed_models=rights.allowed_models,
        allowed_prompts=rights.allowed_prompts,
        allowed_networks=rights.allowed_networks,
        expires_at=rights.expires_at,
        limits=dict(rights.limits),
        maker_id=principal.key_id,
        actor=key_actor(principal, address),
    )


@transaction.atomic
def rotate_own_key(
    principal: Principal, public_id: str, *, overlap: timedelta, reason: str, address: str | None
) -> IssuedKey:
    """Rotate a key of the customer that is at most as wide as the asking one (itself included).

    Raises KeyNotFound, KeyExceedsMaker, KeyNotRotatable or KeyInvalid.
    """
    key = get_key(principal, public_id)
    _check_reach(principal, key)
    return rotate_key(
        key_id=key.pk,
        overlap=overlap,
        reason=reason,
        author=f"key {principal.key_prefix}",
        actor=key_actor(principal, address),
    )


@transaction.atomic
def revoke_own_key(principal: Principal, public_id: str, *, reason: str, address: str | None) -> list[ApiKey]:
    """Revoke a key of the customer that is at most as wide as the asking one, with those that it made.

    Raises KeyNotFound, KeyExceedsMaker, KeyAlreadyRevoked or KeyInvalid.
    """
    key = get_key(principal, public_id)
    _check_reach(principal, key)
    return revoke_key(key_id=key.pk, reason=reason, actor=key_actor(principal, address))


def _check_reach(principal: Principal, key: ApiKey) -> None:
    """Raise KeyExceedsMaker for a key that may do more than the asking one.

    Its own line and what it made never do, whatever stands in their rows: their calls are held to its rights.
    """
    above: ApiKey | None = key
    while above is not None:
        if key_counters(line_of(above)) == principal.key_owner:
            return
        above = above.maker
    check_not_wider(rights_of(key), rights_of_principal(principal))

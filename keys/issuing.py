"""Making and ending keys. A key's text exists only in `IssuedKey`, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction

from common.ids import make_id
from keys.errors import KeyAlreadyRevoked, KeyInvalid
from keys.limits import LIMIT_COLUMNS
from keys.models import ApiKey, KeyEnvironment
from keys.scopes import DEFAULT_SCOPES, Scope
from keys.tokens import hash_token, make_token, visible_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key and its secret text, which nobody can show again."""

    key: ApiKey
    token: str


def issue_key(
    *,
    customer_id: int,
    name: str,
    author: str,
    environment: KeyEnvironment = KeyEnvironment.LIVE,
    scopes: Sequence[str] = tuple(DEFAULT_SCOPES),
    allowed_models: Sequence[str] = (),
    expires_at: datetime | None = None,
    limits: dict[str, int | None] | None = None,
    token: str | None = None,
) -> IssuedKey:
    """Create a key and return it with its secret.

    `token` brings a known secret (the demo key, a migrated one); left out, a fresh one is drawn. `limits` maps
    columns of `LimitColumns` to values. Raises KeyInvalid for an unknown scope or limit, or an expiry in the past.
    """
    unknown_scopes = sorted(set(scopes) - set(Scope))
    if unknown_scopes:
        raise KeyInvalid(f"Unknown scopes: {', '.join(unknown_scopes)}. Known: {', '.join(Scope)}.", param="scopes")
    unknown_limits = sorted(set(limits or {}) - set(LIMIT_COLUMNS))
    if unknown_limits:
        raise KeyInvalid(f"Unknown limits: {', '.join(unknown_limits)}.", param="limits")
    now = datetime.now(UTC)
    if expires_at is not None and expires_at <= now:
        raise KeyInvalid("The expiry is in the past.", param="expires_at")
    secret = token or make_token(environment)
    key = ApiKey.objects.create(
        public_id=make_id("key"),
        customer_id=customer_id,
        name=name,
        environment=environment,
        prefix=visible_prefix(secret),
        secret_hmac=hash_token(secret, settings.KEY_PEPPERS[0]),
        scopes=sorted(scopes),
        allowed_models=list(allowed_models),
        expires_at=expires_at,
        created_at=now,
        created_by=author,
        **(limits or {}),
    )
    return IssuedKey(key=key, token=secret)


def revoke_key(*, key_id: int, reason: str) -> None:
    """End a key for good; every process refuses it from the next call on, also on an open WebSocket.

    Raises KeyAlreadyRevoked, and KeyInvalid without a reason.
    """
    if not reason.strip():
        raise KeyInvalid("Say why the key is revoked: the reason stays with it.", param="reason")
    with transaction.atomic():
        key = ApiKey.objects.select_for_update().get(pk=key_id)
        if key.revoked_at is not None:
            raise KeyAlreadyRevoked
        key.revoked_at = datetime.now(UTC)
        key.revoked_reason = reason.strip()[:200]
        key.save(update_fields=["revoked_at", "revoked_reason"])

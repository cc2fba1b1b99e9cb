"""Making, rotating and ending keys. A key's text exists only in `IssuedKey`, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

from django.conf import settings
from django.db import transaction

from common.ids import make_id
from keys.audit import SYSTEM, Actor, author_actor, record_event
from keys.errors import KeyAlreadyRevoked, KeyInvalid, KeyNotRotatable
from keys.limit_values import LIMIT_COLUMNS, allowed_values
from keys.lines import line_of
from keys.models import ApiKey, KeyEnvironment
from keys.scopes import DEFAULT_SCOPES, Scope
from keys.tokens import hash_token, make_token, visible_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new key and its secret text, which nobody can show again."""

    key: ApiKey
    token: str


@transaction.atomic
def issue_key(
    *,
    customer_id: int,
    name: str,
    author: str,
    environment: KeyEnvironment = KeyEnvironment.LIVE,
    scopes: Sequence[str] = tuple(DEFAULT_SCOPES),
    allowed_models: Sequence[str] = (),
    allowed_prompts: Sequence[str] = (),
    allowed_networks: Sequence[str] = (),
    expires_at: datetime | None = None,
    limits: dict[str, int | None] | None = None,
    token: str | None = None,
    maker_id: int | None = None,
    line_id: int | None = None,
    api_version: str = "",
    actor: Actor | None = None,
) -> IssuedKey:
    """Create a key and return it with its secret.

    `token` brings a known secret (the demo key, a migrated one); left out, a fresh one is drawn. `limits` maps
    columns of `LimitColumns` to values. `maker_id` is the key that asked for it, `line_id` the first of the keys
    whose limits it shares, `api_version` the date that it is answered in (empty: its first call decides). `actor` is
    who the audit trail names (default: the author). Raises KeyInvalid for an unknown scope or limit, a network that is
    none, or an expiry in the past.
    """
    unknown_scopes = sorted(set(scopes) - set(Scope))
    if unknown_scopes:
        raise KeyInvalid(f"Unknown scopes: {', '.join(unknown_scopes)}. Known: {', '.join(Scope)}.", param="scopes")
    unknown_limits = sorted(set(limits or {}) - set(LIMIT_COLUMNS))
    if unknown_limits:
        raise KeyInvalid(f"Unknown limits: {', '.join(unknown_limits)}.", param="limits")
    for column, value in (limits or {}).items():
        allowed = allowed_values(column)
        if value is not None and value not in allowed:
            raise KeyInvalid(f"'{column}' lies between {allowed[0]} and {allowed[-1]:,}.", param="limits")
    now = datetime.now(UTC)
    if expires_at is not None and expires_at <= now:
        raise KeyInvalid("The expiry is in the past.", param="expires_at")
    networks = parse_networks(allowed_networks)
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
        allowed_prompts=list(allowed_prompts),
        allowed_networks=networks,
        maker_id=maker_id,
        line_id=line_id,
        api_version=api_version,
        expires_at=expires_at,
        created_at=now,
        created_by=author,
        **(limits or {}),
    )
    after = {
        "name": name,
        "customer": str(key.customer),
        "prefix": key.prefix,
        "environment": environment,
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "allowed_prompts": key.allowed_prompts,
        "allowed_networks": key.allowed_networks,
        "expires_at": expires_at,
        **{column: value for column, value in (limits or {}).items() if value is not None},
    }
    record_event(actor=actor or author_actor(author), action="api_key.issued", target=key, after=after)
    return IssuedKey(key=key, token=secret)


def parse_networks(texts: Sequence[str]) -> list[str]:
    """Return networks in their canonical form; an address is the network of itself. Raises KeyInvalid."""
    networks = []
    for text in texts:
        try:
            networks.append(str(ip_network(text.strip(), strict=True)))
        except ValueError as error:
            raise KeyInvalid(
                f"'{text[:60]}' is neither an address nor a network such as 192.0.2.0/24 or 2001:db8::/32 ({error}).",
                param="allowed_networks",
            ) from None
    return networks


@transaction.atomic
def rotate_key(*, key_id: int, overlap: timedelta, reason: str, author: str, actor: Actor | None = None) -> IssuedKey:
    """Issue a successor with the same rights and limits, and let the old key work for `overlap` more (zero: not).

    Both count in the same counters: rotating frees no place and no budget. The old key answers with a Deprecation
    header meanwhile, and never outlives the expiry that it had. The successor of a key with an expiry gets as long a
    life as the old one had from the start. Keys that the old one made belong to the successor. Raises KeyNotRotatable
    for a key that has ended or has a successor, KeyInvalid without a reason.
    """
    if not reason.strip():
        raise KeyInvalid("Say why the key is rotated: the reason stays in the audit trail.", param="reason")
    if overlap < timedelta(0):
        raise KeyInvalid("The overlap must not end in the past.", param="overlap")
    old = ApiKey.objects.select_for_update().get(pk=key_id)
    now = datetime.now(UTC)
    if old.state(now=now) != "active":
        raise KeyNotRotatable(f"This key is {old.state(now=now)}; only an active key can be rotated. Issue a new one.")
    issued = issue_key(
        customer_id=old.customer_id,
        name=old.name,
        author=author,
        environment=KeyEnvironment(old.environment),
        scopes=old.scopes,
        allowed_models=old.allowed_models,
        allowed_prompts=old.allowed_prompts,
        allowed_networks=old.allowed_networks,
        expires_at=None if old.expires_at is None else now + (old.expires_at - old.created_at),
        limits={column: getattr(old, column) for column in LIMIT_COLUMNS},
        maker_id=old.maker_id,
        line_id=line_of(old),
        api_version=old.api_version,
        actor=actor,
    )
    ends_at = min(filter(None, (now + overlap, old.expires_at)))
    before = {"expires_at": old.expires_at}
    old.successor, old.deprecated_at, old.expires_at = issued.key, now, ends_at
    old.save(update_fields=["successor", "deprecated_at", "expires_at"])
    ApiKey.objects.filter(maker_id=old.pk).update(maker_id=issued.key.pk)
    record_event(
        actor=actor or author_actor(author),
        action="api_key.rotated",
        target=old,
        before=before,
        after={"expires_at": ends_at, "successor": issued.key.prefix},
        reason=reason,
    )
    return issued


def revoke_key(*, key_id: int, reason: str, actor: Actor = SYSTEM) -> list[ApiKey]:
    """End a key for good, and the keys that it made; every process refuses them from the next call on.

    An open WebSocket included. Returns the keys that were ended, the named one first. Raises KeyAlreadyRevoked, and
    KeyInvalid without a reason.
    """
    if not reason.strip():
        raise KeyInvalid("Say why the key is revoked: the reason stays with it.", param="reason")
    with transaction.atomic():
        key = ApiKey.objects.select_for_update().get(pk=key_id)
        if key.revoked_at is not None:
            raise KeyAlreadyRevoked
        ended = [key]
        while made := list(
            ApiKey.objects.select_for_update()
            .filter(maker__in=ended, revoked_at__isnull=True)
            .exclude(pk__in=[e.pk for e in ended])
            .order_by("pk")
        ):
            ended += made
        for each in ended:
            _end(each, reason if each is key else f"made by {key.prefix}…: {reason}", actor)
    return ended


def _end(key: ApiKey, reason: str, actor: Actor) -> None:
    key.revoked_at = datetime.now(UTC)
    key.revoked_reason = reason.strip()[:200]
    key.save(update_fields=["revoked_at", "revoked_reason"])
    record_event(
        actor=actor,
        action="api_key.revoked",
        target=key,
        before={"state": "active"},
        after={"state": "revoked"},
        reason=key.revoked_reason,
    )

"""A key never reaches further than the one that asked for it: what each right of the two has to be to one another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network

from common.clock import from_us
from keys.errors import KeyExceedsMaker
from keys.limits import LIMIT_COLUMNS
from keys.models import ApiKey, KeyEnvironment
from keys.principals import Network, Principal, covers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a key may do. Empty lists admit everything; a limit that is absent or None is not limited by the key."""

    environment: str
    scopes: Sequence[str]
    allowed_models: Sequence[str]
    allowed_prompts: Sequence[str]
    allowed_networks: Sequence[str]
    expires_at: datetime | None
    limits: Mapping[str, int | None]


def rights_of(key: ApiKey) -> Rights:
    """Return what a key may do."""
    return Rights(
        environment=key.environment,
        scopes=key.scopes,
        allowed_models=key.allowed_models,
        allowed_prompts=key.allowed_prompts,
        allowed_networks=key.allowed_networks,
        expires_at=key.expires_at,
        limits={column: getattr(key, column) for column in LIMIT_COLUMNS},
    )


def rights_of_principal(principal: Principal) -> Rights:
    """Return what the key of a caller may do."""
    return Rights(
        environment=principal.environment,
        scopes=sorted(principal.scopes),
        allowed_models=principal.allowed_models,
        allowed_prompts=principal.allowed_prompts,
        allowed_networks=[str(network) for network in principal.allowed_networks],
        expires_at=None if principal.expires_us is None else from_us(principal.expires_us),
        limits={column: getattr(principal.key_limits, column) for column in LIMIT_COLUMNS},
    )


def check_not_wider(wanted: Rights, maker: Rights) -> None:
    """Raise KeyExceedsMaker with the first right in which `wanted` reaches further than `maker`."""
    if wanted.environment == KeyEnvironment.LIVE and maker.environment != KeyEnvironment.LIVE:
        raise KeyExceedsMaker(what="a test key makes test keys only", param="environment")
    missing = sorted(set(wanted.scopes) - set(maker.scopes))
    if missing:
        raise KeyExceedsMaker(what=f"it lacks the scopes {', '.join(missing)}", param="scopes")
    for param, asked, held in (
        ("allowed_models", wanted.allowed_models, maker.allowed_models),
        ("allowed_prompts", wanted.allowed_prompts, maker.allowed_prompts),
    ):
        wider = _find_wider_pattern(asked, held)
        if wider is not None:
            raise KeyExceedsMaker(what=f"{wider} is not on its own list ({', '.join(held)})", param=param)
    wider = _find_wider_network(wanted.allowed_networks, maker.allowed_networks)
    if wider is not None:
        raise KeyExceedsMaker(
            what=f"{wider} is not within its own networks ({', '.join(maker.allowed_networks)})",
            param="allowed_networks",
        )
    if maker.expires_at is not None and (wanted.expires_at is None or wanted.expires_at > maker.expires_at):
        raise KeyExceedsMaker(what=f"it expires itself at {maker.expires_at:%Y-%m-%d %H:%M:%S} UTC", param="expires_at")
    for column in LIMIT_COLUMNS:
        held_limit, asked_limit = maker.limits.get(column), wanted.limits.get(column)
        if held_limit is not None and (asked_limit is None or asked_limit > held_limit):
            raise KeyExceedsMaker(what=f"its own {column} is {held_limit}", param=column)


def _find_wider_pattern(asked: Sequence[str], held: Sequence[str]) -> str | None:
    """Return an entry of `asked` that admits what `held` does not; "everything" for an empty list."""
    if not held:
        return None
    if not asked:
        return "everything"
    return next((pattern for pattern in asked if not any(_includes(own, pattern) for own in held)), None)


def _includes(own: str, pattern: str) -> bool:
    return covers(own, pattern[:-1]) and own.endswith("*") if pattern.endswith("*") else covers(own, pattern)


def _find_wider_network(asked: Sequence[str], held: Sequence[str]) -> str | None:
    if not held:
        return None
    if not asked:
        return "every address"
    own = [ip_network(network) for network in held]
    return next((text for text in asked if not any(_is_within(ip_network(text), network) for network in own)), None)


def _is_within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]

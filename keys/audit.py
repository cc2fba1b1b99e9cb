"""The audit trail: who did what to what, from where, with what before and after, and why.

A row is written in the transaction of the change that it tells of, by the domain function that makes the change: it
is there exactly when the change is. The table is append-only by the database itself. Secrets and their hashes never
get into it (`keys.redaction`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import Model

from keys.models import ActorKind, AuditEvent
from keys.principals import Principal
from keys.redaction import clean_text, show_values

_NO_VALUES: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts; `id` is a user's number, a key's public id, or empty."""

    kind: ActorKind
    name: str
    id: str = ""
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is acted upon; `kind` is a model's label such as "keys.apikey"."""

    kind: str
    id: str
    name: str


SYSTEM = Actor(kind=ActorKind.SYSTEM, name="platform")


def command_actor(name: str) -> Actor:
    """Return who acts when an operator runs a command such as "manage.py apply"."""
    return Actor(kind=ActorKind.COMMAND, name=name)


def author_actor(author: str) -> Actor:
    """Return who acts where a caller gave nothing but an author's name."""
    if author.startswith("manage.py ") or author == "demo_data":
        return command_actor(author)
    return Actor(kind=ActorKind.SYSTEM, name=author or SYSTEM.name)


def key_actor(principal: Principal, address: str | None) -> Actor:
    """Return who acts when a customer's key asks for something."""
    return Actor(
        kind=ActorKind.KEY,
        id=principal.key_public_id,
        name=f"{principal.key_prefix}… ({principal.key_name})",
        address=address,
    )


def target_of(row: Model) -> Target:
    """Return the target that a database row is."""
    return Target(kind=row._meta.label_lower, id=str(row.pk), name=str(row))


def action_on(row: Model, verb: str) -> str:
    """Return the name of what was done to a row: "api_key.changed"."""
    return f"{str(row._meta.verbose_name).lower().replace(' ', '_')}.{verb}"


def record_event(
    *,
    actor: Actor,
    action: str,
    target: Target | Model,
    before: Mapping[str, object] = _NO_VALUES,
    after: Mapping[str, object] = _NO_VALUES,
    reason: str = "",
) -> AuditEvent:
    """Append one row to the trail and return it. Call it in the transaction of the change.

    `action` is "thing.done" in snake case: "api_key.revoked". `before` and `after` map names of columns to values as
    the model holds them; what did not change is best left out. Secrets among them are hidden, money is shown in USD.
    """
    what = target_of(target) if isinstance(target, Model) else target
    return AuditEvent.objects.create(
        created_at=datetime.now(UTC),
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=clean_text(actor.name)[:150],
        address=actor.address,
        action=action,
        object_kind=what.kind,
        object_id=what.id[:64],
        object_name=clean_text(what.name)[:200],
        before=show_values(before),
        after=show_values(after),
        reason=clean_text(reason),
    )

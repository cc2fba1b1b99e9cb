"""The roles that every installation has: groups whose permissions are written here, and rewritten by each migrate.

An administrator who needs another cut makes a group of their own; these four stay what their names promise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, Permission

_VIEW = ("view",)
_EDIT = ("view", "add", "change")
_ALL = ("view", "add", "change", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A group and what it may do. Models are named by label; an app's "*" stands for all of its models."""

    name: str
    purpose: str
    rights: Mapping[str, tuple[str, ...]]


ROLES = (
    Role(
        name="Operator",
        purpose="Runs the platform: customers, keys, plans, models, guards. Sees usage and money, moves none.",
        rights={
            "keys.*": _VIEW,
            "billing.*": _VIEW,
            "gateway.*": _VIEW,
            "prompts.*": _VIEW,
            "common.periodicjob": _VIEW,
            "keys.customer": _EDIT,
            "keys.apikey": _EDIT,
            "keys.plan": _ALL,
            "keys.featurerule": _EDIT,
            "gateway.model": _ALL,
            "gateway.deployment": _ALL,
            "gateway.upstream": _ALL,
            "gateway.guardpolicy": _ALL,
            "gateway.guardrule": _ALL,
            "gateway.guardassignment": _ALL,
            # To mark them as mistakes; nothing else of them can be changed.
            "gateway.guarddecision": ("view", "change"),
            "gateway.cachepurge": ("view", "add"),
        },
    ),
    Role(
        name="Prompt editor",
        purpose="Writes, tests and releases prompts. Sees models and nothing of customers or money.",
        rights={"prompts.*": _ALL, "gateway.model": _VIEW},
    ),
    Role(
        name="Finance",
        purpose="Moves and approves money, publishes prices, exports. Sees customers and usage, changes no keys.",
        rights={
            "billing.*": _VIEW,
            "keys.customer": _VIEW,
            "keys.plan": _VIEW,
            "keys.apikey": _VIEW,
            "gateway.model": _VIEW,
            "common.periodicjob": _VIEW,
            "billing.transfer": ("view", "add"),
            # To order one takes the right to add transfers; this one is to approve what others ordered.
            "billing.movement": ("view", "change"),
            "billing.priceversion": ("view", "add"),
            "billing.priceterms": ("view", "add"),
            "billing.exportschedule": _ALL,
            # To close a month takes the right to add one, to issue, book payments and void that to change it.
            "billing.invoice": _EDIT,
            "billing.billingprofile": _EDIT,
            "billing.creditnote": ("view", "add"),
        },
    ),
    Role(
        name="Auditor",
        purpose="Sees everything, the audit trail and administrators included. Changes nothing.",
        rights={f"{app}.*": _VIEW for app in ("keys", "billing", "gateway", "prompts", "auth", "common")},
    ),
)
BUILT_IN = frozenset(role.name for role in ROLES)
# Who may read the trail: it names administrators, addresses and reasons.
_ONLY_BY_NAME = {"view_auditevent": "Auditor"}


def write_roles() -> None:
    """Give each role exactly its permissions. Safe to repeat; models that do not exist are passed over."""
    known = list(Permission.objects.select_related("content_type").order_by("pk"))
    for role in ROLES:
        group, _ = Group.objects.get_or_create(name=role.name)
        group.permissions.set(_permissions(role, known))


def write_roles_after_migrate(**_: Any) -> None:
    """Write the roles once all permissions exist (receiver of `post_migrate` of the last app)."""
    write_roles()


def _permissions(role: Role, known: list[Permission]) -> Iterator[Permission]:
    for permission in known:
        label = f"{permission.content_type.app_label}.{permission.content_type.model}"
        rights = role.rights.get(label, role.rights.get(f"{permission.content_type.app_label}.*", ()))
        verb = permission.codename.partition("_")[0]
        if verb in rights and _ONLY_BY_NAME.get(permission.codename, role.name) == role.name:
            yield permission

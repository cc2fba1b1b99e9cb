"""Applying guard policies: their rules, and whom they are for."""

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Model as Row

from gateway.declarations.application import Application, EntryRefused
from gateway.declarations.changes import Wanted, assign
from gateway.declarations.guard_schema import GuardEntry, GuardKeyEntry, GuardRuleEntry
from gateway.declarations.reading import Declared
from gateway.guard_models import GuardAssignment, GuardPolicy, GuardRule
from gateway.guard_policies import check_row
from gateway.guards.errors import GuardRuleInvalid
from gateway.models import Model
from keys.models import ApiKey, Customer, Plan
from prompts.models import Prompt

# Fields of rules that name rows.
_JUDGE_ROWS = ("judge_model", "judge_key")
_POLICY_FIELDS = ("description", "is_active", "is_for_everybody", "restores")


def apply_guard(application: Application, declared: Declared) -> None:
    """Create or change a policy; what is not listed of its rules and assignments stays."""
    entry = declared.entry
    assert isinstance(entry, GuardEntry)
    found = GuardPolicy.objects.filter(name=entry.name).first()
    policy = found or GuardPolicy(name=entry.name)
    given = [name for name in _POLICY_FIELDS if name in entry.model_fields_set]
    changes = assign(policy, [Wanted(field=name, column=name, value=getattr(entry, name)) for name in given])
    if found is None or changes:
        policy.save()
        application.record(policy, changes, is_new=found is None)
    if found is None:
        application.log.created("guard", policy.name, changes)
    else:
        application.log.updated("guard", policy.name, changes)
    seen: set[str] = set()
    for index, rule in enumerate(entry.rules):
        with application.reporting((*declared.path, "rules", index)):
            if rule.name in seen:
                raise EntryRefused("is listed twice in this policy", "name")
            seen.add(rule.name)
            _apply_rule(application, policy, rule)
    for owner in _owners(application, declared, entry):
        _assign(application, policy, **owner)


def _apply_rule(application: Application, policy: GuardPolicy, entry: GuardRuleEntry) -> None:
    found = GuardRule.objects.filter(policy=policy, name=entry.name).first()
    row = found or GuardRule(policy=policy, name=entry.name)
    if found is None:
        for name in ("kind", "action"):
            if getattr(entry, name) is None:
                raise EntryRefused("is required for a new rule", name)
    changes = assign(row, _wanted_of_rule(entry))
    try:
        check_row(row, policy)
    except GuardRuleInvalid as error:
        raise EntryRefused(error.message, *([error.param] if error.param else [])) from None
    name = f"{entry.name} of {policy.name}"
    if found is None or changes:
        row.full_clean()
        row.save()
        application.record(row, changes, is_new=found is None)
    if found is None:
        application.log.created("guard rule", name, changes)
    else:
        application.log.updated("guard rule", name, changes)


def _wanted_of_rule(entry: GuardRuleEntry) -> list[Wanted]:
    """Return the columns of the fields that the file gives; lists are texts there."""
    wanted = []
    for name in sorted(entry.model_fields_set - {"name"}):
        value: Any = getattr(entry, name)
        if name in _JUDGE_ROWS and value is not None:
            wanted.append(Wanted(field=name, column=name, value=_find_judge_row(name, value), show=str))
            continue
        if name == "terms":
            value = "\n".join(value)
        elif isinstance(value, list):
            value = ", ".join(value)
        elif name in ("kind", "action", "on_failure") and value is not None:
            value = value.value
        wanted.append(Wanted(field=name, column=name, value=value))
    return wanted


def _find_judge_row(name: str, value: str | GuardKeyEntry) -> Row:
    if isinstance(value, GuardKeyEntry):
        row: Row | None = _find_key(value)
        shown = f"key '{value.name} of {value.customer}'"
    else:
        row, shown = Model.objects.filter(name=value).first(), f"model '{value}'"
    if row is None:
        raise EntryRefused(f"there is no {shown}", name)
    return row


def _owners(application: Application, declared: Declared, entry: GuardEntry) -> list[dict[str, Any]]:
    """Return whom the file names; a name that is unknown is reported and left out."""
    found: list[dict[str, Any]] = []
    named: tuple[tuple[str, str, Sequence[Any], Callable[[Any], Row | None]], ...] = (
        ("plans", "plan", entry.plans, lambda slug: Plan.objects.filter(slug=slug).first()),
        ("customers", "customer", entry.customers, lambda name: Customer.objects.filter(name=name).first()),
        ("keys", "api_key", entry.keys, _find_key),
        ("prompts", "prompt", entry.prompts, lambda name: Prompt.objects.filter(name=name).first()),
    )
    for field, column, names, find in named:
        for index, name in enumerate(names):
            with application.reporting((*declared.path, field, index)):
                row = find(name)
                if row is None:
                    shown = f"{name.name} of {name.customer}" if isinstance(name, GuardKeyEntry) else name
                    raise EntryRefused(f"there is no {field.removesuffix('s')} '{shown}'")
                found.append({column: row})
    return found


def _find_key(named: GuardKeyEntry) -> ApiKey | None:
    # All keys of a line share their policies, so any of one name will do.
    return ApiKey.objects.filter(customer__name=named.customer, name=named.name).order_by("id").first()


def _assign(application: Application, policy: GuardPolicy, **owner: Any) -> None:
    row, is_new = GuardAssignment.objects.get_or_create(policy=policy, **owner)
    ((_, whom),) = owner.items()
    name = f"{policy.name} for {whom}"
    if is_new:
        application.record(row, [], is_new=True)
        application.log.created("guard assignment", name)
    else:
        application.log.updated("guard assignment", name, [])

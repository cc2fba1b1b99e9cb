"""Reading and changing policies from outside of the request path: pages, declarations, reports."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count, Sum

from common.clock import to_us
from gateway.guard_models import GuardCount, GuardDecision, GuardPolicy, GuardRule
from gateway.guards.book import judge_of, rule_of
from gateway.guards.checking import check_rule
from gateway.guards.errors import GuardRuleInvalid
from gateway.guards.values import Rule, RuleKind
from gateway.models import Model
from keys.audit import Actor, record_event
from keys.lines import line_of
from keys.models import ApiKey
from keys.principals import covers
from keys.scopes import Scope

_HOUR_US = 3_600_000_000


def value_of(row: GuardRule, policy: GuardPolicy) -> Rule:
    """Return the rule that an (unsaved) row describes, for `check_rule` and for trying it."""
    model, key = row.judge_model, row.judge_key
    judge = judge_of(
        vars(row),
        model=model.name if model is not None else None,
        key_line_id=line_of(key) if key is not None else None,
        environment=key.environment if key is not None else None,
    )
    return rule_of(vars(row), policy=policy.name, restores=policy.restores, judge=judge)


def check_row(row: GuardRule, policy: GuardPolicy) -> None:
    """Return when a row can be saved. Raises GuardRuleInvalid, which names the column."""
    check_rule(value_of(row, policy))
    if row.kind == RuleKind.MODEL and row.is_active:
        assert row.judge_key is not None
        assert row.judge_model is not None
        _check_payer(row.judge_key, row.judge_model)


def _check_payer(key: ApiKey, model: Model) -> None:
    """Refuse a key that could not ask the model: every text would be one without a verdict."""
    if key.state() in ("revoked", "expired"):
        raise GuardRuleInvalid(f"This key is {key.state()}. Choose one that works.", param="judge_key")
    if Scope.CHAT_WRITE not in key.scopes:
        raise GuardRuleInvalid(f"This key lacks the scope '{Scope.CHAT_WRITE}'.", param="judge_key")
    if key.allowed_models and not any(covers(pattern, model.name) for pattern in key.allowed_models):
        raise GuardRuleInvalid(f"This key may not use the model '{model.name}'.", param="judge_key")
    if not model.is_active:
        raise GuardRuleInvalid(f"The model '{model.name}' is switched off.", param="judge_model")


def read_rules(policy: GuardPolicy) -> list[Rule]:
    """Return the active rules of a policy."""
    rules = GuardRule.objects.filter(policy=policy, is_active=True).select_related("judge_model", "judge_key")
    return [value_of(row, policy) for row in rules.order_by("id")]


class RuleCount(NamedTuple):
    """How often a rule acted in one way, on the calls of one customer, on one day (UTC, counted from 1970)."""

    policy: str
    rule: str
    action: str
    customer: str
    day: int
    findings: int


def read_counts(*, days: int, now: datetime, customer_id: int | None = None) -> list[RuleCount]:
    """Return the counts of today and the days before."""
    first_day = to_us(now) // _HOUR_US // 24 - days + 1
    found = GuardCount.objects.filter(hour__gte=first_day * 24)
    if customer_id is not None:
        found = found.filter(customer_id=customer_id)
    sums: dict[tuple[str, str, str, str, int], int] = {}
    rows = found.values_list("policy", "rule", "action", "customer__name", "hour").annotate(n=Sum("findings"))
    for policy, rule, action, customer, hour, number in rows.order_by():
        key = (policy, rule, action, customer, hour // 24)
        sums[key] = sums.get(key, 0) + number
    return [RuleCount(*key, number) for key, number in sorted(sums.items())]


def read_false_positives(*, days: int, now: datetime) -> dict[tuple[str, str], int]:
    """Return, by policy and rule, how many kept decisions were marked as mistakes."""
    since_us = to_us(now.astimezone(UTC) - timedelta(days=days))
    found = GuardDecision.objects.filter(is_false_positive=True, created_us__gte=since_us)
    rows: Iterable[tuple[str, str, int]] = found.values_list("policy", "rule").annotate(n=Count("id")).order_by()
    return {(policy, rule): number for policy, rule, number in rows}


@transaction.atomic
def mark_decision(*, decision_id: int, is_false_positive: bool, actor: Actor) -> None:
    """Mark a decision as a mistake of its rule, or take that back. A repeat changes nothing."""
    decision = GuardDecision.objects.select_for_update().get(pk=decision_id)
    if decision.is_false_positive == is_false_positive:
        return
    decision.is_false_positive = is_false_positive
    decision.save(update_fields=["is_false_positive"])
    record_event(
        actor=actor,
        action="guard_decision.marked" if is_false_positive else "guard_decision.unmarked",
        target=decision,
        before={"is_false_positive": not is_false_positive},
        after={"is_false_positive": is_false_positive},
    )

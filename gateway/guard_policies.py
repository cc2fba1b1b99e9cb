"""Reading and changing policies from outside of the request path: pages, declarations, reports."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count, Q, Sum

from billing.spend import SpendInterval, SpendQuestion, read_spend
from common.clock import to_us
from gateway.guard_models import GuardCount, GuardDecision, GuardPolicy, GuardRule
from gateway.guards.book import judge_of, rule_of
from gateway.guards.checking import check_rule
from gateway.guards.errors import GuardRuleInvalid
from gateway.guards.judging import RULE_TAG
from gateway.guards.values import Rule, RuleKind
from gateway.models import Model
from keys.audit import Actor, record_event
from keys.lines import line_of
from keys.models import ApiKey, Customer
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
    line_id = line_of(key)
    line = ApiKey.objects.filter(Q(pk=line_id) | Q(line_id=line_id)).order_by("-pk")
    working = next((one for one in line if one.state() in ("active", "rotated")), None)
    if working is None:
        raise GuardRuleInvalid(f"This key is {key.state()}. Choose one that works.", param="judge_key")
    key = working
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


class CheckCost(NamedTuple):
    """What the judge of a rule has cost whoever pays for it."""

    # "policy/rule"
    rule: str
    payer: str
    payer_id: int
    checks: int
    charged_nanousd: int
    provider_cost_nanousd: int


def read_check_costs(*, days: int, now: datetime) -> list[CheckCost]:
    """Return the costs of today and the days before by rule, dearest first, of those who pay for rules as they are."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    payers = Customer.objects.filter(pk__in=GuardRule.objects.values("judge_key__customer_id")).order_by("id")
    found = []
    for payer in payers:
        question = SpendQuestion(
            start=today - timedelta(days=days - 1),
            end=today + timedelta(days=1),
            customer_id=payer.pk,
            interval=SpendInterval.NONE,
            tag=RULE_TAG,
        )
        found += [
            CheckCost(row.group, payer.name, payer.pk, row.calls, row.charged_nanousd, row.provider_cost_nanousd)
            for row in read_spend(question)
            if row.group
        ]
    return sorted(found, key=lambda cost: (-cost.charged_nanousd, cost.rule))


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

"""Which rules a call falls under: a part of the catalogue's snapshot, read when its generation moved.

A policy is for everybody, or for plans, customers, keys and prompts. A key's policies are also those of the keys that
succeed it, and of those that it makes: nobody gets rid of a policy by making another key.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from common.sql import Sql
from gateway.guards.checking import default_threshold, split_list, split_terms
from gateway.guards.combining import Guard, combine
from gateway.guards.values import Action, Judge, OnFailure, Rule, RuleKind, Surface
from keys.principals import Principal, customer_counters, key_counters

logger = logging.getLogger(__name__)

_MOST_CALLERS = 10_000
_RULE_COLUMNS = (
    "policy_id",
    "name",
    "kind",
    "action",
    "on_user",
    "on_tool",
    "on_system",
    "on_answer",
    "entities",
    "terms",
    "threshold",
    "pattern",
    "languages",
    "max_characters",
)
_JUDGE_COLUMNS = ("instructions", "deadline_ms", "on_failure")
_SELECT_RULES = (
    f"SELECT {', '.join(f'r.{column}' for column in (*_RULE_COLUMNS, *_JUDGE_COLUMNS))}, m.name,"
    " COALESCE(k.line_id, k.id), k.environment FROM gateway_guardrule r"
    " LEFT JOIN gateway_model m ON m.id = r.judge_model_id LEFT JOIN keys_apikey k ON k.id = r.judge_key_id"
    " WHERE r.is_active ORDER BY r.id"
)
_SURFACES = {
    "on_user": Surface.USER,
    "on_tool": Surface.TOOL,
    "on_system": Surface.SYSTEM,
    "on_answer": Surface.ANSWER,
}
_SELECT_ASSIGNMENTS = (
    "SELECT a.policy_id, a.plan_id, a.customer_id, COALESCE(k.line_id, k.id), p.name FROM gateway_guardassignment a"
    " LEFT JOIN keys_apikey k ON k.id = a.api_key_id LEFT JOIN prompts_prompt p ON p.id = a.prompt_id ORDER BY a.id"
)


class GuardBook:
    """All policies in use; safe to share between threads."""

    def __init__(self, rules: Mapping[int, tuple[Rule, ...]], owners: Mapping[str, tuple[int, ...]]) -> None:
        """`rules` by policy, `owners` maps who or what a policy is for ("" is everybody) to policies."""
        self._rules = rules
        self._owners = owners
        self._found: dict[tuple[int, str, tuple[str, ...], str], Guard] = {}

    def find(self, principal: Principal, prompt: str) -> Guard:
        """Return what the calls of a key, through a prompt or none (""), are checked by; empty for no rule at all."""
        caller = (principal.plan_id, principal.environment, principal.owner_names, prompt)
        found = self._found.get(caller)
        if found is None:
            if len(self._found) >= _MOST_CALLERS:
                self._found.clear()
            names = (_plan(principal.plan_id), *principal.owner_names, _prompt(prompt))
            found = self._found[caller] = self._combine(names, principal.environment)
        return found

    def prepare(self) -> None:
        """Compile what most calls will need, so that no call waits for it; what is compiled is kept.

        A rule that cannot be compiled, written past every check, fails the calls that fall under it and nobody else's.
        """
        for name in self._owners:
            try:
                self._combine((name,), "")
            except Exception:
                logger.exception("the guard policies for %r cannot be used: their calls will fail", name or "everybody")

    def _combine(self, names: Iterable[str], environment: str) -> Guard:
        policies = sorted({policy for name in ("", *names) for policy in self._owners.get(name, ())})
        rules = (rule for policy in policies for rule in self._rules[policy])
        # Whom a test key reaches costs nothing; a judge that a live key pays for would.
        return combine(tuple(rule for rule in rules if rule.judge is None or rule.judge.environment == environment))


def read_guard_book(sql: Sql) -> GuardBook | None:
    """Return the policies of the open transaction; None where none is for anybody."""
    policies = {
        policy_id: (name, bool(restores), bool(is_for_everybody))
        for policy_id, name, restores, is_for_everybody in sql.rows(
            "SELECT id, name, restores, is_for_everybody FROM gateway_guardpolicy WHERE is_active ORDER BY id"
        )
    }
    if not policies:
        return None
    rules: dict[int, tuple[Rule, ...]] = dict.fromkeys(policies, ())
    for *row, model, key_line_id, environment in sql.rows(_SELECT_RULES):
        values = dict(zip((*_RULE_COLUMNS, *_JUDGE_COLUMNS), row, strict=True))
        policy_id = values.pop("policy_id")
        if policy_id in policies:
            name, restores, _ = policies[policy_id]
            judge = judge_of(values, model=model, key_line_id=key_line_id, environment=environment)
            rules[policy_id] += (rule_of(values, policy=name, restores=restores, judge=judge),)
    owners: dict[str, tuple[int, ...]] = {}
    for policy_id, name in _read_owners(sql, policies):
        owners[name] = (*owners.get(name, ()), policy_id)
    if not owners:
        return None
    book = GuardBook(rules, owners)
    book.prepare()
    return book


def _read_owners(sql: Sql, policies: Mapping[int, tuple[str, bool, bool]]) -> Iterable[tuple[int, str]]:
    yield from ((policy_id, "") for policy_id, (_, _, is_for_everybody) in policies.items() if is_for_everybody)
    for policy_id, plan_id, customer_id, line_id, prompt in sql.rows(_SELECT_ASSIGNMENTS):
        if policy_id not in policies:
            continue
        if plan_id is not None:
            yield policy_id, _plan(plan_id)
        elif customer_id is not None:
            yield policy_id, customer_counters(customer_id)
        elif line_id is not None:
            yield policy_id, key_counters(line_id)
        else:
            yield policy_id, _prompt(prompt)


def judge_of(
    values: Mapping[str, Any], *, model: str | None, key_line_id: int | None, environment: str | None
) -> Judge | None:
    """Return who judges for a rule, by its columns and the rows that these name; None for other kinds."""
    if values["kind"] != RuleKind.MODEL:
        return None
    return Judge(
        model=model or "",
        instructions=values["instructions"],
        key_line_id=key_line_id or 0,
        environment=environment or "",
        deadline_ms=values["deadline_ms"],
        on_failure=OnFailure(values["on_failure"]),
    )


def rule_of(values: Mapping[str, Any], *, policy: str, restores: bool, judge: Judge | None = None) -> Rule:
    """Return the rule that a row's columns describe."""
    kind = RuleKind(values["kind"])
    threshold = values["threshold"]
    return Rule(
        policy=policy,
        name=values["name"],
        kind=kind,
        action=Action(values["action"]),
        surfaces=frozenset(surface for column, surface in _SURFACES.items() if values[column]),
        restores=restores,
        entities=split_list(values["entities"]),
        terms=split_terms(values["terms"]),
        threshold=default_threshold(kind) if threshold is None else threshold,
        pattern=values["pattern"],
        languages=split_list(values["languages"]),
        max_characters=values["max_characters"] or 0,
        judge=judge,
    )


def _plan(plan_id: int) -> str:
    return f"plan:{plan_id}"


def _prompt(name: str) -> str:
    return f"prompt:{name}"

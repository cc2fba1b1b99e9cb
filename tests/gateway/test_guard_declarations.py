"""Guard policies in a declarations file: applied once, checked like everywhere, and never taken away."""

import textwrap

import pytest

from gateway.declarations.applying import apply_declarations
from gateway.declarations.changes import Applied
from gateway.declarations.document import DeclarationsInvalid
from gateway.guard_models import GuardAssignment, GuardPolicy, GuardRule
from keys.models import AuditEvent
from tests.factories import make_customer, make_key
from tests.prompting import make_prompt

pytestmark = pytest.mark.django_db

POLICY = """
    guards:
      - name: strict
        rules:
          - {name: pii, kind: pii, action: redact, entities: [email, phone]}
          - {name: rivals, kind: words, action: flag, terms: [Globex, "init*"], on_answer: true}
"""


def apply(text: str) -> Applied:
    return apply_declarations(textwrap.dedent(text), variables={})


def problem(text: str) -> tuple[str, str]:
    with pytest.raises(DeclarationsInvalid) as caught:
        apply(text)
    (found,) = caught.value.problems
    return found.field, found.message


def test_a_policy_is_applied_with_its_rules_and_a_repeat_changes_nothing() -> None:
    apply(POLICY)
    pii, rivals = GuardRule.objects.order_by("id")
    assert (pii.entities, pii.on_tool, pii.on_answer) == ("email, phone", True, False)
    assert (rivals.terms, rivals.on_answer) == ("Globex\ninit*", True)
    assert AuditEvent.objects.filter(action="guard_rule.created").count() == 2
    assert apply(POLICY).changes == ()


def test_what_the_file_does_not_name_stays() -> None:
    apply(POLICY)
    applied = apply("guards: [{name: strict, restores: false, rules: [{name: pii, action: block}]}]")
    assert [change.name for change in applied.changes] == ["strict", "pii of strict"]
    assert GuardRule.objects.count() == 2
    assert not GuardPolicy.objects.get().restores


def test_a_policy_is_for_plans_customers_keys_and_prompts() -> None:
    customer, prompt = make_customer(), make_prompt()
    key = make_key(customer, name="web").key
    text = f"""
        guards:
          - name: strict
            plans: [{customer.plan.slug}]
            customers: [{customer.name}]
            keys: [{{customer: {customer.name}, name: web}}]
            prompts: [{prompt.name}]
    """
    apply(text)
    found = GuardAssignment.objects.order_by("id").values_list("plan", "customer", "api_key", "prompt")
    assert list(found) == [
        (customer.plan_id, None, None, None),
        (None, customer.pk, None, None),
        (None, None, key.pk, None),
        (None, None, None, prompt.pk),
    ]
    assert apply(text).changes == ()


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        ("{name: a, kind: pattern, action: block, pattern: 'a+'}", "pattern", "has no bound"),
        ("{name: a, kind: injection, action: redact}", "action", "can only flag or block"),
        ("{name: a, kind: pii, action: flag, entities: [shoes]}", "entities", "Not known: shoes"),
        ("{name: a, action: flag}", "kind", "is required for a new rule"),
        ("{name: a, kind: magic, action: flag}", "kind", "input should be"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_its_place(rule: str, field: str, message: str) -> None:
    where, said = problem(f"guards: [{{name: strict, rules: [{rule}]}}]")
    assert where == f"guards[0].rules[0].{field}"
    assert message in said
    assert not GuardPolicy.objects.exists()


def test_an_unknown_owner_is_refused() -> None:
    assert problem("guards: [{name: strict, plans: [gold]}]") == ("guards[0].plans[0]", "there is no plan 'gold'")

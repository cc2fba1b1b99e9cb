"""Guard policies in a declarations file: applied once, checked like everywhere, and never taken away."""

import textwrap
from datetime import timedelta

import pytest

from gateway.declarations.applying import apply_declarations
from gateway.declarations.changes import Applied
from gateway.declarations.document import DeclarationsInvalid
from gateway.guard_models import GuardAssignment, GuardPolicy, GuardRule
from keys.issuing import revoke_key, rotate_key
from keys.models import AuditEvent
from tests.factories import make_customer, make_key, make_model
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


JUDGED = """
    guards:
      - name: strict
        rules:
          - name: advice
            kind: model
            action: block
            on_answer: true
            judge_model: {model}
            judge_key: {{customer: {customer}, name: house}}
            instructions: Medical advice.
            deadline_ms: 500
            on_failure: allow
"""


def test_a_rule_that_a_model_judges_names_its_model_and_its_key() -> None:
    model, customer = make_model(), make_customer()
    key = make_key(customer, name="house").key
    text = JUDGED.format(model=model.name, customer=customer.name)
    apply(text)
    rule = GuardRule.objects.get()
    assert (rule.judge_model, rule.judge_key, rule.deadline_ms, rule.on_failure) == (model, key, 500, "allow")
    assert apply(text).changes == ()
    rotate_key(key_id=key.pk, overlap=timedelta(days=1), reason="a test", author="tests")
    revoke_key(key_id=key.pk, reason="a test")
    assert apply(text).changes == ()


def test_a_judge_that_is_not_there_is_refused() -> None:
    text = JUDGED.format(model="gpt-none", customer="Nobody")
    assert problem(text) == ("guards[0].rules[0].judge_key", "there is no key 'house of Nobody'")
    customer = make_customer()
    make_key(customer, name="house")
    text = JUDGED.format(model="gpt-none", customer=customer.name)
    assert problem(text) == ("guards[0].rules[0].judge_model", "there is no model 'gpt-none'")


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        ("{name: a, kind: model, action: block}", "judge_model", "Choose the model that judges."),
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

"""Guard policies in the admin: what cannot work is refused at its field, a text can be tried, a mistake marked."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client

from billing.journal import BookedUsage, append_usage
from common.clock import to_us
from common.sql import Sql
from gateway.guard_models import GuardCount, GuardDecision, GuardPolicy, GuardRule
from gateway.guard_policies import read_check_costs, read_counts
from gateway.guard_rows import KEPT_A_CALL, KEPT_A_MINUTE, CallFindings, GuardNotes, freeze_notes, write_findings
from gateway.guards.values import Action, Finding
from gateway.models import Model
from keys.issuing import revoke_key
from keys.models import AuditEvent
from tests.factories import find_principal, funded_call, make_customer, make_guard, make_key, make_model

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def policy_form(customer_id: int, **rule: str) -> dict[str, str]:
    first = {
        "name": "pii",
        "kind": "pii",
        "action": "redact",
        "is_active": "on",
        "on_user": "on",
        "deadline_ms": "2000",
        "on_failure": "block",
        **rule,
    }
    return {
        "name": "default",
        "is_active": "on",
        "restores": "on",
        "rules-TOTAL_FORMS": "1",
        "rules-INITIAL_FORMS": "0",
        **{f"rules-0-{name}": value for name, value in first.items()},
        "assignments-TOTAL_FORMS": "1",
        "assignments-INITIAL_FORMS": "0",
        "assignments-0-customer": str(customer_id),
    }


def find_in_calls(customer_id: int, key_id: int, *, calls: int, findings: int = 1) -> list[CallFindings]:
    found = []
    for number in range(calls):
        notes = GuardNotes()
        for place in range(findings):
            notes.add(Finding("default", "pii.email", Action.REDACT, "messages[0].content", place, place + 1))
        call = freeze_notes(notes, request_id=f"req_{number}", customer_id=customer_id, api_key_id=key_id)
        assert call is not None
        found.append(call)
    return found


def note(calls: list[CallFindings]) -> None:
    write_findings(Sql(connection), calls, now_us=to_us(NOW))


def test_a_policy_is_made_with_its_rules_and_whom_it_is_for_and_the_trail_knows(admin_client: Client) -> None:
    customer = make_customer()
    answer = admin_client.post("/admin/gateway/guardpolicy/add/", policy_form(customer.pk))
    assert answer.status_code == 302, answer.content.decode()
    policy = GuardPolicy.objects.get()
    assert [rule.name for rule in policy.rules.all()] == ["pii"]
    assert [assignment.customer_id for assignment in policy.assignments.all()] == [customer.pk]
    assert AuditEvent.objects.filter(action="guard_policy.created").exists()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"kind": "pattern", "pattern": "(a+)+$"}, "has no bound"),
        ({"kind": "pattern", "pattern": "(a"}, "cannot be used"),
        ({"kind": "injection", "action": "redact"}, "can only flag or block"),
        ({"kind": "pii", "entities": "email, shoes"}, "Not known: shoes"),
        ({"kind": "words"}, "Name what to look for"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(admin_client: Client, rule: dict[str, str], said: str) -> None:
    answer = admin_client.post("/admin/gateway/guardpolicy/add/", policy_form(make_customer().pk, **rule))
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not GuardPolicy.objects.exists()


def judge_columns(**columns: str) -> dict[str, str]:
    """Return the form of a rule that a model judges."""
    key, model = make_key().key, make_model()
    judge = {"judge_model": str(model.pk), "judge_key": str(key.pk), "instructions": "Medical advice."}
    return {"name": "advice", "kind": "model", "action": "block", **judge, **columns}


def test_a_rule_that_a_model_judges_is_made_with_its_judge(admin_client: Client) -> None:
    columns = judge_columns(on_failure="allow", deadline_ms="500")
    answer = admin_client.post("/admin/gateway/guardpolicy/add/", policy_form(make_customer().pk, **columns))
    assert answer.status_code == 302, answer.content.decode()
    (rule,) = GuardRule.objects.all()
    assert (str(rule.judge_model_id), str(rule.judge_key_id)) == (columns["judge_model"], columns["judge_key"])
    assert (rule.deadline_ms, rule.on_failure, rule.instructions) == (500, "allow", "Medical advice.")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"judge_model": ""}, "Choose the model that judges."),
        ({"judge_key": ""}, "Choose the key whose customer pays for the checks."),
        ({"instructions": " "}, "Say what the model is not to let through."),
        ({"deadline_ms": "50"}, "The deadline is 100 to 10,000 ms."),
        ({"deadline_ms": "10001"}, "The deadline is 100 to 10,000 ms."),
        ({"action": "redact"}, "can only flag or block"),
    ],
)
def test_a_judge_that_cannot_work_is_refused(admin_client: Client, columns: dict[str, str], said: str) -> None:
    form = policy_form(make_customer().pk, **judge_columns(**columns))
    answer = admin_client.post("/admin/gateway/guardpolicy/add/", form)
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not GuardPolicy.objects.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scopes": ["usage:read"]}, "This key lacks the scope"),
        ({"allowed_models": ["other-*"]}, "This key may not use the model"),
        ({"is_revoked": True}, "This key is revoked."),
    ],
)
def test_a_key_that_could_not_ask_the_judge_is_refused(
    admin_client: Client, options: dict[str, Any], said: str
) -> None:
    is_revoked = options.pop("is_revoked", False)
    key = make_key(**options).key
    if is_revoked:
        revoke_key(key_id=key.pk, reason="a test")
    form = policy_form(make_customer().pk, **judge_columns(judge_key=str(key.pk)))
    assert said in admin_client.post("/admin/gateway/guardpolicy/add/", form).content.decode()


def test_the_database_takes_no_judge_without_model_key_and_instructions() -> None:
    policy = make_guard()
    with pytest.raises(IntegrityError, match="has_judge"), transaction.atomic():
        GuardRule.objects.create(policy=policy, name="advice", kind="model", action="block", instructions="Advice.")


def test_the_report_tells_what_judging_has_cost_and_leads_to_it_over_time(admin_client: Client) -> None:
    call = funded_call()
    judge = {"judge_model_id": Model.objects.get(name=call.model).pk, "judge_key_id": call.principal.key_id}
    rule = {"kind": "model", "action": "block", "name": "advice", "instructions": "Advice.", **judge}
    make_guard(rule, name="no-advice")
    for number in range(2):
        settle = call.settle(f"req_{number}", cost_nanousd=140_000, started_us=to_us(datetime.now(UTC)))
        usage = settle.usage._replace(tags='{"guard_rule": "no-advice/advice"}', operation="guards.checks")
        append_usage(Sql(connection), [BookedUsage(usage, 140_000)], now_us=to_us(datetime.now(UTC)))
    assert [tuple(cost) for cost in read_check_costs(days=1, now=datetime.now(UTC))] == [
        ("no-advice/advice", call.principal.customer_name, call.customer_id, 2, 280_000, 0)
    ]
    page = admin_client.get("/admin/gateway/guarddecision/report/").content.decode()
    assert "0.00028" in page
    assert "tag=guard_rule" in page
    assert f"customer={call.customer_id}" in page


def test_an_assignment_is_for_one_thing(admin_client: Client) -> None:
    customer = make_customer()
    data = policy_form(customer.pk) | {"assignments-0-plan": str(customer.plan_id)}
    assert "Choose one in each line" in admin_client.post("/admin/gateway/guardpolicy/add/", data).content.decode()


def test_a_text_can_be_tried_and_is_kept_nowhere(admin_client: Client) -> None:
    policy = make_guard({"kind": "pii", "action": "redact"}, {"kind": "words", "action": "flag", "terms": "acme"})
    data = {"surface": "user", "text": "Acme: write to ada@example.org"}
    text = admin_client.post(f"/admin/gateway/guardpolicy/{policy.pk}/try/", data).content.decode()
    assert "pii.email" in text
    assert "9 to 13" not in text
    assert "15 to 30" in text
    assert "Acme: write to [EMAIL]" in text
    make_guard({"kind": "secrets", "action": "block"})
    assert not GuardDecision.objects.exists()
    assert not AuditEvent.objects.filter(after__icontains="ada@example.org").exists()


def test_a_flood_of_findings_is_counted_in_full_and_kept_in_part() -> None:
    issued = make_key(make_customer())
    principal = find_principal(issued.token)
    note(find_in_calls(principal.customer_id, principal.key_id, calls=10, findings=30))
    assert GuardDecision.objects.count() == min(KEPT_A_MINUTE, 10 * KEPT_A_CALL)
    note(find_in_calls(principal.customer_id, principal.key_id, calls=1))
    assert GuardDecision.objects.count() == KEPT_A_MINUTE
    assert GuardCount.objects.get().findings == 301
    (count,) = read_counts(days=1, now=NOW)
    assert (count.rule, count.action, count.findings) == ("pii.email", "redact", 301)
    assert read_counts(days=1, now=NOW, customer_id=make_customer().pk) == []


def test_findings_of_a_key_that_is_gone_hold_nothing_up() -> None:
    customer = make_customer()
    note(find_in_calls(customer.pk, 10**9, calls=1))
    assert not GuardDecision.objects.exists()


def test_a_mistake_is_marked_and_the_report_tells(admin_client: Client) -> None:
    issued = make_key(make_customer(name="Mistaken Ltd"))
    principal = find_principal(issued.token)
    write_findings(
        Sql(connection),
        find_in_calls(principal.customer_id, principal.key_id, calls=2),
        now_us=to_us(datetime.now(UTC)),
    )
    decision = GuardDecision.objects.order_by("id")[0]
    page = f"/admin/gateway/guarddecision/{decision.pk}/mark/"
    assert admin_client.get(page).status_code == 200
    assert not GuardDecision.objects.filter(is_false_positive=True).exists()
    assert admin_client.post(page, {"_act": "1"}).status_code == 302
    assert GuardDecision.objects.get(is_false_positive=True).pk == decision.pk
    assert AuditEvent.objects.filter(action="guard_decision.marked").count() == 1
    report = admin_client.get("/admin/gateway/guarddecision/report/").content.decode()
    assert "Mistaken Ltd (2)" in report
    assert "2 findings" in report

"""Guard policies in the admin: what cannot work is refused at its field, a text can be tried, a mistake marked."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client

from common.clock import to_us
from common.sql import Sql
from gateway.guard_models import GuardCount, GuardDecision, GuardPolicy
from gateway.guard_policies import read_counts
from gateway.guard_rows import KEPT_A_CALL, KEPT_A_MINUTE, CallFindings, GuardNotes, freeze_notes, write_findings
from gateway.guards.values import Action, Finding
from keys.models import AuditEvent
from tests.factories import find_principal, make_customer, make_guard, make_key

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def policy_form(customer_id: int, **rule: str) -> dict[str, str]:
    first = {"name": "pii", "kind": "pii", "action": "redact", "is_active": "on", "on_user": "on", **rule}
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

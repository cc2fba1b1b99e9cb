"""Guards in a browser: a policy is tried with a text, and the report shows what rules did."""

from datetime import UTC, datetime

import pytest
from django.db import connection

from common.clock import to_us
from common.sql import Sql
from gateway.guard_models import GuardDecision
from gateway.guard_rows import GuardNotes, freeze_notes, write_findings
from gateway.guards.values import Action, Finding
from tests.browser.conftest import Browser
from tests.factories import find_principal, make_customer, make_guard, make_key, make_model

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def make_findings() -> None:
    principal = find_principal(make_key(make_customer(name="Acme")).token)
    notes = GuardNotes()
    for action in Action:
        notes.add(Finding("strict", f"rule.{action.value}", action, "messages[0].content", 3, 18))
    found = freeze_notes(notes, request_id="req_1", customer_id=principal.customer_id, api_key_id=principal.key_id)
    assert found is not None
    write_findings(Sql(connection), [found], now_us=to_us(datetime.now(UTC)))


def test_every_page_of_guards_opens_without_a_fault(browser: Browser) -> None:
    make_findings()
    judge = {"judge_model_id": make_model().pk, "judge_key_id": make_key().key.pk, "instructions": "Medical advice."}
    policy = make_guard(
        {"kind": "pii", "action": "redact"},
        {"kind": "model", "action": "block", **judge},
        plan_id=make_customer().plan_id,
    )
    decision = GuardDecision.objects.order_by("id")[0]
    pages = {
        "gateway/guardpolicy/": "#result_list",
        "gateway/guardpolicy/add/": "#id_restores",
        f"gateway/guardpolicy/{policy.pk}/change/": "#id_rules-1-instructions",
        f"gateway/guardpolicy/{policy.pk}/try/": "#id_text",
        "gateway/guarddecision/": "#result_list",
        f"gateway/guarddecision/{decision.pk}/change/": "text=which is kept nowhere",
        f"gateway/guarddecision/{decision.pk}/mark/": "#form-page",
        "gateway/guarddecision/report/": "#guard-chart canvas",
    }
    for path, selector in pages.items():
        browser.open(path).wait_for_selector(selector, timeout=10_000)
        assert browser.faults == [], path


def test_a_text_is_tried_and_shown_as_it_would_go_on(browser: Browser) -> None:
    policy = make_guard({"kind": "pii", "action": "redact"}, {"kind": "words", "action": "flag", "terms": "acme"})
    page = browser.open(f"gateway/guardpolicy/{policy.pk}/change/")
    page.click("text=Try a text")
    page.fill("#id_text", "Acme writes to ada@example.org")
    page.click("#try-guards button[type=submit]")
    page.wait_for_selector("#guard-result >> text=Acme writes to [EMAIL]")
    assert page.locator("text=pii.email").count() == 1
    assert browser.faults == []

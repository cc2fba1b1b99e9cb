"""Who may open what: the question is asked of every admin page for every role, and of every action."""

from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection
from django.db.models import Model
from django.test import Client

from billing.alerts import AlertPolicy, notice_alerts
from billing.export_models import ExportSchedule
from billing.exports.running import compute_figures, record_run
from billing.finance_models import UsageArchive
from billing.invoice_models import BillingProfile, Invoice
from billing.models import Account, Transfer
from billing.money import Order, order_movement
from billing.money_models import MovementKind
from billing.reconciliation import reconcile
from billing.reconciliation.records import record_reconciliation
from billing.terms import publish_terms
from common.clock import to_us
from common.sql import Sql
from gateway.attempt_rows import NewAttempt, write_attempts
from gateway.cache_models import PurgeScope
from gateway.caching.purging import purge_answers
from gateway.guard_rows import GuardNotes, freeze_notes, write_findings
from gateway.guards.values import Action, Finding
from gateway.models import Upstream
from keys.flagging import set_feature
from keys.models import AuditEvent, Customer
from platform_site.periodic import JOBS, claim_due_jobs
from platform_site.roles import BUILT_IN, ROLES, write_roles
from tests.admitting import run
from tests.exporting import order
from tests.factories import funded_call, make_guard

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

# For each role: the pages it may look at, and those where it may add, change and delete; every other is closed.
_MONEY = {
    *("billing.account", "billing.hold", "billing.movement", "billing.transfer", "billing.usagerecord"),
    *("billing.priceversion", "billing.priceterms", "billing.exportrun", "billing.exportschedule"),
    *("billing.alert", "billing.usagearchive", "billing.reconciliationrun"),
    *("billing.invoice", "billing.billingprofile"),
}
_KEYS = {"keys.apikey", "keys.customer", "keys.plan"}
_FLAGS = {"keys.featurerule"}
_GATEWAY = {
    *("gateway.cachepurge", "gateway.callattempt", "gateway.deployment", "gateway.guarddecision"),
    *("gateway.guardpolicy", "gateway.model", "gateway.refusal", "gateway.upstream", "gateway.worker"),
}
_JOBS = {"common.periodicjob"}
_CATALOGUE = {"gateway.deployment", "gateway.guardpolicy", "gateway.model", "gateway.upstream"}
VIEWS = {
    "Operator": _MONEY | _KEYS | _FLAGS | _GATEWAY | _JOBS,
    "Prompt editor": {"gateway.model"},
    "Finance": _MONEY | _KEYS | _JOBS | {"gateway.model"},
    "Auditor": _MONEY | _KEYS | _FLAGS | _GATEWAY | _JOBS | {"keys.auditevent", "auth.user", "auth.group"},
    "nobody": set[str](),
}
ADDS = {
    "Operator": {"keys.apikey", "keys.customer", "keys.plan", "gateway.cachepurge", *_FLAGS, *_CATALOGUE},
    "Finance": {
        *("billing.priceversion", "billing.priceterms", "billing.exportschedule"),
        "billing.billingprofile",
    },
}
CHANGES = {
    "Operator": {"keys.apikey", "keys.customer", "keys.plan", *_CATALOGUE},
    "Finance": {"billing.exportschedule", "billing.billingprofile"},
}
DELETES = {"Operator": {"keys.plan", *_CATALOGUE}, "Finance": {"billing.exportschedule"}}
# Pages of parts that the matrix does not speak of yet: the prompts of their own editors.
_APPS = {"keys", "billing", "gateway", "auth", "common"}


def registered() -> list[str]:
    return sorted(m._meta.label_lower for m in admin.site._registry if m._meta.app_label in _APPS)


def client_of(role: str) -> Client:
    user = User.objects.create_user(role, is_staff=True)
    if role != "nobody":
        user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def url(label: str, rest: str = "") -> str:
    return f"/admin/{label.replace('.', '/')}/{rest}"


def first_pk(label: str) -> Any:
    model = next(m for m in admin.site._registry if m._meta.label_lower == label)
    found: Model | None = model._default_manager.order_by("pk").first()
    return None if found is None else found.pk


def fill() -> None:
    call = funded_call()
    run(call.admit(request_id="req_settled"))
    run(call.settle("req_settled", cost_nanousd=7))
    attempt = NewAttempt(
        request_id="req_settled",
        number=1,
        customer_id=call.customer_id,
        model=call.model,
        deployment_ref=1,
        upstream="east",
        upstream_model="alpha",
        outcome="upstream_error",
        is_billed=False,
        input_tokens=0,
        output_tokens=0,
        is_estimated=False,
        provider_cost_nanousd=0,
        upstream_ms=1,
    )
    write_attempts(Sql(connection), [attempt], now_us=to_us(datetime.now(UTC)))
    run(call.admit(request_id="req_open"))
    run(call.admit(request_id="req_refused", amount_nanousd=10**15))
    make_guard({"kind": "pii", "action": "flag"}, customer_id=call.customer_id)
    notes = GuardNotes()
    notes.add(Finding("policy-1", "pii.email", Action.FLAG, "messages[0].content", 0, 15))
    found = freeze_notes(
        notes, request_id="req_settled", customer_id=call.customer_id, api_key_id=call.principal.key_id
    )
    assert found is not None
    write_findings(Sql(connection), [found], now_us=to_us(datetime.now(UTC)))
    set_feature(feature="uniform_names", is_on=True, reason="for a test")
    purge_answers(PurgeScope.MODEL, call.model, reason="for a test", author="tests")
    publish_terms(customer_id=call.customer_id, markup_basis_points=1_000, author="tests")
    order_movement(
        Order(
            kind=MovementKind.TOP_UP,
            customer_id=call.customer_id,
            amount_nanousd=1,
            reason="for a test",
            author="tests",
        )
    )
    schedule = {"name": "daily", "content": "usage", "format": "csv", "destination": "exports"}
    ExportSchedule.objects.create(**schedule, first_day=date(2026, 11, 1))
    day = datetime(2026, 11, 1, tzinfo=UTC)
    chosen = order("usage", "csv", start=day, end=day + timedelta(days=1))
    record_run(chosen, compute_figures(chosen), is_closed=True)
    record_reconciliation(reconcile(), duration_ms=1)
    Customer.objects.update(spend_total_nanousd=1)
    notice_alerts(datetime.now(UTC), AlertPolicy(percents=(100,), balance_nanousd=0))
    figures = {"row_count": 1, "charged_nanousd": 0, "cost_nanousd": 0, "byte_count": 1, "sha256": "", "location": ""}
    claim_due_jobs(JOBS, now=day)
    UsageArchive.objects.create(
        day=day, starts_at=day, ends_at=day + timedelta(days=1), highest_id=0, created_at=day, **figures
    )
    BillingProfile.objects.create(customer_id=call.customer_id)
    Invoice.objects.create(
        customer_id=call.customer_id,
        month="2026-11",
        standing_month="2026-11",
        status="draft",
        time_zone="UTC",
        period_start=day,
        period_end=day + timedelta(days=30),
        seller={"legal_name": "seller"},
        buyer={"legal_name": "buyer"},
        computed_at=day,
    )


@pytest.mark.parametrize("role", VIEWS)
def test_each_page_opens_to_the_roles_that_it_is_for(role: str) -> None:
    fill()
    client = client_of(role)
    for label in registered():
        pk = first_pk(label)
        assert pk is not None, f"nothing to open of {label}"
        sees = label in VIEWS[role]
        expected = HTTPStatus.OK if sees else HTTPStatus.FORBIDDEN
        assert client.get(url(label)).status_code == expected, label
        assert client.get(url(label, f"{pk}/change/")).status_code == expected, label


@pytest.mark.parametrize("role", VIEWS)
def test_each_role_adds_changes_and_deletes_only_what_it_is_for(role: str) -> None:
    fill()
    client = client_of(role)
    for label in registered():
        pk = first_pk(label)
        adds, changes, deletes = (label in rights.get(role, set()) for rights in (ADDS, CHANGES, DELETES))
        answer = client.get(url(label, "add/"))
        assert (answer.status_code == HTTPStatus.OK) is adds, f"{role} adds {label}: {answer.status_code}"
        answer = client.post(url(label, f"{pk}/change/"), {})
        assert (answer.status_code != HTTPStatus.FORBIDDEN) is changes, f"{role} changes {label}: {answer.status_code}"
        answer = client.get(url(label, f"{pk}/delete/"))
        assert (answer.status_code == HTTPStatus.OK) is deletes, f"{role} deletes {label}: {answer.status_code}"


@pytest.mark.parametrize(
    ("label", "action", "roles"),
    [
        ("keys.customer", "grant-credit", {"Finance"}),
        ("keys.customer", "suspend", {"Operator"}),
        ("keys.customer", "reactivate", {"Operator"}),
        ("keys.apikey", "revoke", {"Operator"}),
        ("keys.apikey", "api-version", {"Operator"}),
        ("keys.featurerule", "end", {"Operator"}),
        ("gateway.model", "publish-price", {"Finance"}),
        ("gateway.model", "plan", {"Operator", "Prompt editor", "Finance", "Auditor"}),
        ("gateway.upstream", "test-connection", {"Operator"}),
        ("gateway.guardpolicy", "try", {"Operator", "Auditor"}),
        ("gateway.guarddecision", "mark", {"Operator"}),
        ("billing.invoice", "issue", {"Finance"}),
        ("billing.invoice", "receive-payment", {"Finance"}),
        ("billing.invoice", "void", {"Finance"}),
        ("billing.invoice", "pdf", {"Operator", "Finance", "Auditor"}),
        ("keys.customer", "billing-profile", {"Finance"}),
        ("auth.user", "reset-second-factor", set[str]()),
    ],
)
def test_each_action_is_open_to_the_roles_that_it_is_for(label: str, action: str, roles: set[str]) -> None:
    fill()
    for role in VIEWS:
        answer = client_of(role).get(url(label, f"{first_pk(label)}/{action}/"))
        assert (answer.status_code != HTTPStatus.FORBIDDEN) is (role in roles), f"{role}: {answer.status_code}"


@pytest.mark.parametrize(
    "path", ["billing/exportrun/export/", "billing/usagerecord/export-listed/", "billing/usagerecord/finance/"]
)
def test_exports_of_usage_are_open_to_those_who_see_usage(path: str) -> None:
    for role, views in VIEWS.items():
        answer = client_of(role).get(f"/admin/{path}")
        assert (answer.status_code == HTTPStatus.OK) is ("billing.usagerecord" in views), role


def test_nobody_without_staff_rights_gets_past_the_login() -> None:
    fill()
    user = User.objects.create_user("customer")
    user.groups.add(*Group.objects.all())
    client = Client()
    client.force_login(user)
    for label in registered():
        assert client.get(url(label))["Location"].startswith("/admin/login/"), label


def test_finance_grants_credit_and_the_trail_names_it() -> None:
    fill()
    account = Account.objects.get(kind="customer")
    client = client_of("Finance")
    page = f"/admin/keys/customer/{account.customer_id}/grant-credit/"
    data = {"amount": "5", "reason": "paid", "reference": "grant_1", "_confirmed": "1"}
    assert client.post(page, data).status_code == HTTPStatus.FOUND
    assert Transfer.objects.filter(reference="grant_1").exists()
    assert AuditEvent.objects.get(action="grant.booked", reason="paid").actor_name == "Finance"


def test_the_auditor_may_do_nothing_but_look() -> None:
    codenames = Permission.objects.filter(group__name="Auditor").values_list("codename", flat=True)
    assert codenames
    assert all(codename.startswith("view_") for codename in codenames)


def test_roles_are_what_they_say_after_every_migrate() -> None:
    group = Group.objects.get(name="Auditor")
    group.permissions.add(Permission.objects.get(codename="add_transfer"))
    Group.objects.get(name="Finance").permissions.clear()
    call_command("migrate", verbosity=0)
    assert not group.permissions.filter(codename="add_transfer").exists()
    assert Group.objects.get(name="Finance").permissions.filter(codename="add_transfer").exists()
    write_roles()
    assert Group.objects.filter(name__in=BUILT_IN).count() == len(ROLES)


def test_built_in_roles_are_shown_and_not_edited(admin_client: Client) -> None:
    group = Group.objects.get(name="Auditor")
    own = Group.objects.create(name="Own")
    assert "purpose" in admin_client.get("/admin/auth/group/").content.decode()
    assert admin_client.post(f"/admin/auth/group/{group.pk}/change/", {"name": "x"}).status_code == HTTPStatus.FORBIDDEN
    assert admin_client.post(f"/admin/auth/group/{group.pk}/delete/").status_code == HTTPStatus.FORBIDDEN
    assert admin_client.post(f"/admin/auth/group/{own.pk}/change/", {"name": "x"}).status_code == HTTPStatus.FOUND


def test_an_upstreams_secret_reaches_no_role() -> None:
    fill()
    upstream = Upstream.objects.get()
    for role in VIEWS:
        text = client_of(role).get(url("gateway.upstream", f"{upstream.pk}/change/")).content.decode()
        assert upstream.encrypted_secret not in text
        assert "sk-test" not in text

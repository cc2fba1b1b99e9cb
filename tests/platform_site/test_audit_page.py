"""What admin pages change is in the trail, with values; the trail is found, read and exported, and only that."""

import csv
import io
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpResponseBase, StreamingHttpResponse
from django.test import Client

from common.admin_audit import AuditedAdmin
from gateway.capabilities import CAPABILITY_COLUMNS
from gateway.models import Deployment, Upstream
from keys.models import AuditEvent, Plan
from tests.factories import make_customer, make_key, make_model, make_plan, make_upstream

pytestmark = pytest.mark.django_db

LIST = "/admin/keys/auditevent/"


def last_event() -> AuditEvent:
    return AuditEvent.objects.latest("id")


def exported(answer: HttpResponseBase) -> list[dict[str, str]]:
    assert isinstance(answer, StreamingHttpResponse)
    text = b"".join(answer).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_every_admin_page_records_its_changes() -> None:
    unrecorded = [model.__name__ for model, page in admin.site._registry.items() if not isinstance(page, AuditedAdmin)]
    assert unrecorded == []


def test_a_change_by_form_is_recorded_with_before_and_after(admin_client: Client) -> None:
    plan = make_plan(requests_per_minute=5)
    data = {
        "name": plan.name,
        "slug": plan.slug,
        "is_paid": "on",
        "requests_per_minute": "9",
        "spend_per_day_nanousd": "1.5",
    }
    admin_client.post(f"/admin/keys/plan/{plan.pk}/change/", data, REMOTE_ADDR="192.0.2.7")
    event = last_event()
    assert (event.action, event.actor_kind, event.actor_name) == ("plan.changed", "admin", "admin")
    assert event.address == "192.0.2.7"
    assert event.before == {"requests_per_minute": 5, "spend_per_day_usd": None}
    assert event.after == {"requests_per_minute": 9, "spend_per_day_usd": "1.50"}


def test_a_form_saved_unchanged_leaves_no_entry(admin_client: Client) -> None:
    plan = make_plan()
    count = AuditEvent.objects.count()
    admin_client.post(f"/admin/keys/plan/{plan.pk}/change/", {"name": plan.name, "slug": plan.slug, "is_paid": "on"})
    assert AuditEvent.objects.count() == count


def test_adding_and_deleting_are_recorded(admin_client: Client) -> None:
    admin_client.post("/admin/keys/plan/add/", {"name": "Gold", "slug": "gold", "is_paid": "on"})
    gold = {"name": "Gold", "slug": "gold", "is_paid": True}
    assert (last_event().action, last_event().after) == ("plan.created", gold)
    plan = Plan.objects.get()
    admin_client.post(f"/admin/keys/plan/{plan.pk}/delete/", {"post": "yes"})
    assert not Plan.objects.exists()
    assert (last_event().action, last_event().before) == ("plan.deleted", gold)


def test_deleting_many_records_each(admin_client: Client) -> None:
    upstreams = [make_upstream(), make_upstream()]
    data = {"action": "delete_selected", "_selected_action": [u.pk for u in upstreams], "post": "yes"}
    admin_client.post("/admin/gateway/upstream/", data)
    assert not Upstream.objects.exists()
    names = AuditEvent.objects.filter(action="upstream.deleted").values_list("object_name", flat=True)
    assert sorted(names) == sorted(u.name for u in upstreams)
    assert "gAAAA" not in str(list(AuditEvent.objects.values()))


def test_a_domain_function_called_by_a_page_is_recorded_once(admin_client: Client) -> None:
    data = {"name": "Acme", "plan": make_plan().pk, "email": "", "note": ""}
    admin_client.post("/admin/keys/customer/add/", data)
    event = AuditEvent.objects.get(object_name="Acme")
    assert (event.action, event.actor_name, event.address) == ("customer.created", "admin", "127.0.0.1")
    admin_client.post(f"/admin/keys/customer/{event.object_id}/suspend/", {"_act": "1"})
    assert (last_event().action, last_event().actor_name) == ("customer.suspended", "admin")
    assert AuditEvent.objects.filter(object_name="Acme").count() == 2


def test_inlines_are_recorded(admin_client: Client) -> None:
    model = make_model()
    deployment = Deployment.objects.get()
    form: dict[str, Any] = {
        "name": model.name,
        "description": "",
        "is_active": "on",
        "context_window": 8192,
        "max_output_tokens": 2048,
        "default_output_tokens": 256,
        "input_estimate_percent": 100,
        "image_tokens": 1600,
        "owned_by": model.owned_by,
        "routing": model.routing,
        "retries": model.retries,
        "retry_wait_seconds": model.retry_wait_seconds,
        "attempts_seconds": model.attempts_seconds,
        "cache_seconds": model.cache_seconds,
        "cache_limit_seconds": model.cache_limit_seconds,
        "reused_price_percent": model.reused_price_percent,
        "deployments-TOTAL_FORMS": 1,
        "deployments-INITIAL_FORMS": 1,
        "deployments-0-id": deployment.pk,
        "deployments-0-model": model.pk,
        "deployments-0-priority": 3,
        "deployments-0-weight": 1,
        "deployments-0-upstream": deployment.upstream_id,
        "deployments-0-upstream_model": deployment.upstream_model,
        "deployments-0-is_active": "on",
    }
    answer = admin_client.post(f"/admin/gateway/model/{model.pk}/change/", form)
    assert answer.status_code == HTTPStatus.FOUND, answer.context["errors"]
    event = last_event()
    assert event.action == "model.changed"
    assert event.before == {f"deployment {deployment.pk} priority": 1}
    assert event.after == {f"deployment {deployment.pk} priority": 3}


def test_an_upstreams_secret_is_told_as_hidden(admin_client: Client) -> None:
    upstream = make_upstream(secret="sk-old-secret-1234567890")
    data = {
        "name": upstream.name,
        "dialect": "openai",
        "base_url": upstream.base_url,
        "secret": "brand-new-provider-secret",
        "is_active": "on",
        "authentication": "bearer",
        "output_limit_parameter": "max_tokens",
        **dict.fromkeys(CAPABILITY_COLUMNS, "on"),
        "on_disconnect": "stop",
        "connect_timeout_seconds": "5.0",
        "first_token_timeout_seconds": "60.0",
        "idle_timeout_seconds": "30.0",
        "total_timeout_seconds": "600.0",
    }
    admin_client.post(f"/admin/gateway/upstream/{upstream.pk}/change/", data)
    assert last_event().after == {"secret": "(hidden)"}
    assert "brand-new-provider-secret" not in str(list(AuditEvent.objects.values()))


def test_permissions_roles_and_passwords_of_administrators_are_recorded(admin_client: Client) -> None:
    user, role = User.objects.create_user("bob", password="old password 1"), Group.objects.create(name="testers")
    permission = Permission.objects.get(codename="view_plan")
    base = {"username": "bob", "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    data = {**base, "is_active": "on", "is_staff": "on", "groups": [role.pk], "user_permissions": [permission.pk]}
    admin_client.post(f"/admin/auth/user/{user.pk}/change/", data)
    event = last_event()
    assert event.action == "user.changed"
    assert (event.before["is_staff"], event.after["is_staff"]) == (False, True)
    assert (event.before["groups"], event.after["groups"]) == ([], ["testers"])
    assert event.after["user_permissions"] == [str(permission)]
    data = {"password1": "another secret 2", "password2": "another secret 2", "usable_password": "true"}
    admin_client.post(f"/admin/auth/user/{user.pk}/password/", data)
    assert last_event().after == {"password": "(hidden)"}
    assert "another secret" not in str(list(AuditEvent.objects.values()))


def test_an_objects_page_shows_its_entries(admin_client: Client) -> None:
    key = make_key(name="website").key
    page = admin_client.get(f"/admin/keys/apikey/{key.pk}/change/")
    assert "api_key.issued" in page.content.decode()
    history = admin_client.get(f"/admin/keys/apikey/{key.pk}/history/", follow=True)
    assert [event.object_id for event in history.context["cl"].result_list] == [str(key.pk)]


@pytest.mark.parametrize(
    "query",
    [
        "q=Acme",
        "q=tests",
        "action=credit.granted",
        "object_kind=keys.customer&action=credit.granted",
        "actor_kind__exact=system&q=for a test",
        "created_at_from_0=2026-01-01&q=Acme&action=credit.granted",
    ],
)
def test_entries_are_found_by_actor_action_object_and_date(admin_client: Client, query: str) -> None:
    make_customer(name="Acme")
    rows = admin_client.get(f"{LIST}?{query}").context["cl"].result_list
    assert "Acme" in {event.object_name for event in rows}
    assert not admin_client.get(f"{LIST}?{query}&created_at_to_0=2020-01-01").context["cl"].result_list


def test_what_the_list_finds_is_exported(admin_client: Client) -> None:
    make_customer(name="Acme")
    make_customer(name="=cmd|' /C calc'!A0")
    rows = exported(admin_client.get(f"{LIST}export/?action=customer.created"))
    assert [row["object_name"] for row in rows] == ["Acme", "'=cmd|' /C calc'!A0"]
    assert rows[0]["created_at"].endswith("Z")
    assert len(exported(admin_client.get(f"{LIST}export/"))) == AuditEvent.objects.count()


def test_nobody_changes_the_trail_through_the_admin(admin_client: Client) -> None:
    make_customer()
    event = last_event()
    assert admin_client.get(f"{LIST}add/").status_code == HTTPStatus.FORBIDDEN
    assert admin_client.post(f"{LIST}{event.pk}/delete/", {"post": "yes"}).status_code == HTTPStatus.FORBIDDEN
    assert admin_client.post(f"{LIST}{event.pk}/change/", {"reason": "x"}).status_code == HTTPStatus.FORBIDDEN
    assert admin_client.get(f"{LIST}{event.pk}/change/").status_code == HTTPStatus.OK


def test_without_the_permission_there_is_neither_list_nor_export_nor_panel(client: Client) -> None:
    key = make_key().key
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_apikey"))
    client.force_login(clerk)
    for path in ("", "export/"):
        assert client.get(f"{LIST}{path}").status_code == HTTPStatus.FORBIDDEN
    page = client.get(f"/admin/keys/apikey/{key.pk}/change/")
    assert page.status_code == HTTPStatus.OK
    assert "api_key.issued" not in page.content.decode()

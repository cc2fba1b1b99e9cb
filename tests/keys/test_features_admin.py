"""Flags and API versions in the admin: switched with a reason, shown where they count, ended in one step."""

from typing import Any

import pytest
from django.test import Client

from gateway.versions import NEWEST, VERSIONS
from keys.issuing import revoke_key
from keys.models import ApiKey, AuditEvent, FeatureRule
from tests.factories import make_customer, make_key

pytestmark = pytest.mark.django_db

ADD = "/admin/keys/featurerule/add/"


def fill(**changes: Any) -> dict[str, Any]:
    return {"feature": "resumable_streams", "is_on": "on", "share_percent": "100", "reason": "pilot", **changes}


def test_a_flag_is_switched_for_a_customer_and_shown_on_its_page(admin_client: Client) -> None:
    customer = make_customer()
    page = admin_client.get(f"{ADD}?customer={customer.pk}")
    assert page.context["form"]["customer"].value() == str(customer.pk)
    answer = admin_client.post(ADD, fill(customer=str(customer.pk)))
    rule = FeatureRule.objects.get()
    assert answer["Location"] == f"/admin/keys/featurerule/{rule.pk}/change/"
    assert (rule.customer, rule.is_on, rule.ends_at, rule.created_by) == (customer, True, None, "admin")
    event = AuditEvent.objects.get(action="feature.set")
    assert (event.object_id, event.reason, event.actor_name) == (str(customer.pk), "pilot", "admin")
    assert "resumable_streams" in admin_client.get(f"/admin/keys/customer/{customer.pk}/change/").content.decode()
    for path in ("", f"{rule.pk}/change/"):
        assert "resumable_streams" in admin_client.get(f"/admin/keys/featurerule/{path}").content.decode()


def test_a_key_is_named_by_its_id_or_its_first_characters(admin_client: Client) -> None:
    key = make_key().key
    for text in (key.public_id, f"{key.prefix}…"):
        admin_client.post(ADD, fill(api_key=text, is_on="off"))
    assert [(r.api_key_id, r.is_on) for r in FeatureRule.objects.all()] == [(key.pk, False)] * 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"feature": "no_such_flag"}, "feature"),
        ({"share_percent": "0"}, "share_percent"),
        ({"api_key": "tk_live_nobody"}, "api_key"),
        ({"ends_at_0": "2020-01-01", "ends_at_1": "00:00:00"}, "ends_at"),
    ],
)
def test_what_cannot_be_switched_is_told_at_its_field(
    admin_client: Client, changes: dict[str, str], field: str
) -> None:
    answer = admin_client.post(ADD, fill(**changes))
    assert answer.status_code == 200
    assert field in answer.context["form"].errors
    assert not FeatureRule.objects.exists()


def test_a_rule_is_for_a_customer_or_a_key_and_has_no_share_then(admin_client: Client) -> None:
    key = make_key().key
    both = admin_client.post(ADD, fill(customer=str(key.customer_id), api_key=key.public_id))
    assert "api_key" in both.context["form"].errors
    part = admin_client.post(ADD, fill(customer=str(key.customer_id), share_percent="10"))
    assert "share_percent" in part.context["form"].errors


def test_a_rule_is_ended_once_and_with_a_reason(admin_client: Client) -> None:
    admin_client.post(ADD, fill(share_percent="10"))
    rule = FeatureRule.objects.get()
    url = f"/admin/keys/featurerule/{rule.pk}/end/"
    assert admin_client.post(url, {"reason": " "}).status_code == 200
    assert admin_client.post(url, {"reason": "it broke"}).status_code == 302
    rule.refresh_from_db()
    assert rule.ends_at is not None
    assert "has ended already" in admin_client.post(url, {"reason": "again"}).content.decode()
    assert AuditEvent.objects.filter(action="feature.ended").count() == 1


def test_a_key_is_moved_to_another_api_version(admin_client: Client) -> None:
    key = make_key().key
    url = f"/admin/keys/apikey/{key.pk}/api-version/"
    assert "first call pins it to the newest" in admin_client.get(url).content.decode()
    assert admin_client.post(url, {"api_version": "2001-01-01", "reason": "x"}).status_code == 200
    assert admin_client.post(url, {"api_version": VERSIONS[0].name, "reason": "older client"}).status_code == 302
    key.refresh_from_db()
    assert key.api_version == VERSIONS[0].name
    page = admin_client.get(f"/admin/keys/apikey/{key.pk}/change/").content.decode()
    assert VERSIONS[0].name in page
    assert AuditEvent.objects.get(action="api_key.version_moved").reason == "older client"
    assert admin_client.post(url, {"api_version": NEWEST, "reason": "upgraded"}).status_code == 302
    assert ApiKey.objects.get(pk=key.pk).api_version == NEWEST


def test_a_revoked_key_is_not_offered_another_version(admin_client: Client) -> None:
    key = make_key().key
    revoke_key(key_id=key.pk, reason="leaked")
    assert admin_client.get(f"/admin/keys/apikey/{key.pk}/change/").context["actions_detail"] == []

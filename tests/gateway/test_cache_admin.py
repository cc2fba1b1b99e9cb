"""The admin of the response cache: what it saved, and purging it."""

from typing import Any

import pytest
from django.test import Client

from billing.models import CacheState, UsageRecord
from common.clock import SYSTEM_CLOCK
from gateway.cache_models import CachePurge
from gateway.models import Model
from keys.models import AuditEvent
from tests.admitting import run
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db

LIST = "/admin/gateway/cachepurge/"
FORM = {"scope": "model", "model": "", "customer": "", "reason": "wrong answers"}


def record(call: FundedCall, cache: CacheState, **columns: Any) -> UsageRecord:
    """Book a call that the cache had a part in."""
    question = call.admit()
    run(question)
    settle = call.settle(question.request_id, cost_nanousd=0, started_us=SYSTEM_CLOCK.now_us())
    run(settle._replace(usage=settle.usage._replace(cache=cache.value, **columns)))
    return UsageRecord.objects.get(request_id=question.request_id)


def test_the_page_shows_hit_rate_bytes_and_money_by_model(admin_client: Client) -> None:
    call = funded_call()
    for cache in (CacheState.HIT, CacheState.HIT, CacheState.COALESCED):
        record(call, cache, reused_bytes=2_048, saved_nanousd=1_500_000_000)
    for cache in (CacheState.MISS, CacheState.BYPASS):
        record(call, cache)
    text = admin_client.get(LIST).content.decode()
    assert call.model in text
    for shown in ("75 %", "6.0\xa0KB", "4.50"):
        assert shown in text, shown


def test_an_empty_page_says_how_to_begin(admin_client: Client) -> None:
    assert "max-age" in admin_client.get(LIST).content.decode()


def test_usage_can_be_filtered_by_what_the_cache_did(admin_client: Client) -> None:
    call = funded_call()
    hit, miss = record(call, CacheState.HIT), record(call, CacheState.MISS)
    text = admin_client.get("/admin/billing/usagerecord/?cache__exact=hit").content.decode()
    assert hit.request_id in text
    assert miss.request_id not in text
    page = admin_client.get(f"/admin/billing/usagerecord/{hit.pk}/change/").content.decode()
    assert "came from the response cache" in page


def test_a_purge_asks_before_it_acts_and_is_in_the_trail(admin_client: Client) -> None:
    call = funded_call()
    form = {**FORM, "model": call.model}
    asked = admin_client.post(f"{LIST}add/", form)
    assert "Is this right?" in asked.content.decode()
    assert not CachePurge.objects.exists()
    for count in (1, 2):
        assert admin_client.post(f"{LIST}add/", {**form, "_confirmed": "1"}).status_code == 302
        purge = CachePurge.objects.get()
        assert (purge.scope, purge.subject, purge.count) == ("model", call.model, count)
    event = AuditEvent.objects.filter(action="cache.purged").latest("id")
    assert (event.actor_name, event.reason) == ("admin", "wrong answers")


@pytest.mark.parametrize("scope", ["model", "customer"])
def test_a_purge_names_its_subject(admin_client: Client, scope: str) -> None:
    answer = admin_client.post(f"{LIST}add/", {**FORM, "scope": scope, "_confirmed": "1"})
    assert f"Which {scope}?" in answer.content.decode()
    assert not CachePurge.objects.exists()


def test_the_page_of_a_model_leads_to_its_purge(admin_client: Client) -> None:
    call = funded_call()
    pk = Model.objects.get(name=call.model).pk
    answer = admin_client.get(f"/admin/gateway/model/{pk}/purge/")
    assert answer.status_code == 302
    assert call.model in admin_client.get(answer["location"]).content.decode()

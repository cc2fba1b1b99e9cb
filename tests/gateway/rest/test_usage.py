"""GET /v1/usage: what each filter means, what a record tells, and that no query breaks it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from billing.models import PriceVersion, UsageRecord
from keys.issuing import IssuedKey
from keys.models import ApiKey
from tests.factories import make_customer, make_key, make_model

pytestmark = pytest.mark.django_db

DAY = datetime(2026, 11, 20, tzinfo=UTC)
Read = Callable[..., Any]


@pytest.fixture
def key() -> IssuedKey:
    return make_key()


@pytest.fixture
def read(client: Client, key: IssuedKey) -> Read:
    """Return a function that asks for usage: the request ids of a query without `group_by`."""

    def ask(**query: Any) -> Any:
        named = {name.removesuffix("_"): value for name, value in query.items()}
        answer = client.get(f"/v1/usage?{urlencode(named)}", headers={"authorization": f"Bearer {key.token}"})
        assert answer.status_code == 200, answer.content
        return [record.get("request_id", record) for record in answer.json()["data"]]

    return ask


def record(key: ApiKey, request_id: str, **columns: Any) -> UsageRecord:
    model = columns.pop("model", None) or make_model().name
    started_at = columns.pop("started_at", datetime.now(UTC))
    return UsageRecord.objects.create(
        **{
            "request_id": request_id,
            "customer_id": key.customer_id,
            "api_key": key,
            "operation": "chat.completions",
            "model": model,
            "price_version": PriceVersion.objects.filter(model=model).latest("effective_from"),
            "status": "completed",
            "source": "provider",
            "is_stream": False,
            "started_at": started_at,
            "settled_at": started_at,
            **columns,
        }
    )


def test_a_record_tells_all_that_is_the_customers_and_nothing_of_ours(client: Client, key: IssuedKey) -> None:
    record(
        key.key,
        "req_full",
        model=make_model(name="full").name,
        prompt="mail",
        prompt_version="2.1.0",
        prompt_label="production",
        upstream="our-provider",
        upstream_model="their-name",
        status="interrupted",
        source="estimated",
        error_code="upstream_interrupted",
        finish_reason="error",
        is_stream=True,
        input_tokens=1,
        cache_read_tokens=2,
        cache_write_tokens=3,
        output_tokens=4,
        reasoning_tokens=5,
        audio_input_tokens=6,
        audio_output_tokens=7,
        image_input_tokens=8,
        image_output_tokens=9,
        cost_nanousd=1_000_000_001,
        charged_nanousd=1,
        provider_cost_nanousd=777_777_777,
        flags="usage_estimated,usage_total_mismatch",
        end_user="user-7",
        tags={"team": "blue"},
        started_at=DAY,
        upstream_ms=900,
        ttft_ms=80,
        total_ms=1_000,
        overhead_us=1_500,
    )
    answer = client.get("/v1/usage/req_full", headers={"authorization": f"Bearer {key.token}"})
    assert answer.json() == {
        "request_id": "req_full",
        "sequence": 0,
        "started_at": "2026-11-20T00:00:00Z",
        "operation": "chat.completions",
        "model": "full",
        "api_key": key.key.public_id,
        "status": "interrupted",
        "error_code": "upstream_interrupted",
        "finish_reason": "error",
        "source": "estimated",
        "stream": True,
        "tokens": {
            "input": 1,
            "cache_read": 2,
            "cache_write": 3,
            "output": 4,
            "reasoning": 5,
            "audio_input": 6,
            "audio_output": 7,
            "image_input": 8,
            "image_output": 9,
        },
        "cost_usd": "1.000000001",
        "charged_usd": "0.000000001",
        "flags": ["usage_estimated", "usage_total_mismatch"],
        "end_user": "user-7",
        "tags": {"team": "blue"},
        "prompt": {"name": "mail", "version": "2.1.0", "label": "production"},
        "cache": None,
        "timing_ms": {"first_token": 80, "upstream": 900, "total": 1000},
    }


def test_the_range_is_half_open_and_dates_are_utc(key: IssuedKey, read: Read) -> None:
    record(key.key, "req_before", started_at=DAY - timedelta(microseconds=1))
    record(key.key, "req_first", started_at=DAY)
    record(key.key, "req_last", started_at=DAY + timedelta(days=1, microseconds=-1))
    record(key.key, "req_after", started_at=DAY + timedelta(days=1))
    inside = ["req_last", "req_first"]
    assert read(from_="2026-11-20", to="2026-11-21") == inside
    assert read(from_="2026-11-20T00:00:00Z", to="2026-11-21T00:00:00") == inside
    assert read(from_="2026-11-20T05:30:00+05:30", to="2026-11-20T19:00:00-05:00") == inside


def test_without_a_range_the_last_thirty_days_are_told(key: IssuedKey, read: Read) -> None:
    now = datetime.now(UTC)
    record(key.key, "req_now", started_at=now)
    record(key.key, "req_29", started_at=now - timedelta(days=29))
    record(key.key, "req_31", started_at=now - timedelta(days=31))
    assert read() == ["req_29", "req_now"]
    assert read(from_="2020-01-01") == ["req_31", "req_29", "req_now"]


def test_filters_narrow_together(key: IssuedKey, read: Read) -> None:
    sibling = make_key(make_customer(), name="unrelated")
    second = make_key(key.key.customer, name="second")
    model, other = make_model().name, make_model().name
    record(key.key, "req_a", model=model)
    record(key.key, "req_b", model=other, status="failed")
    record(second.key, "req_c", model=model, status="failed")
    record(sibling.key, "req_d", model=model)
    assert read(model=model) == ["req_c", "req_a"]
    assert read(status="failed") == ["req_c", "req_b"]
    assert read(api_key=second.key.public_id) == ["req_c"]
    assert read(model=model, status="completed", api_key=key.key.public_id) == ["req_a"]
    assert read(api_key=sibling.key.public_id) == []
    assert read(model="unheard-of") == []


def test_groups_sum_by_day_model_and_key(key: IssuedKey, read: Read) -> None:
    model = make_model().name
    record(key.key, "req_a", model=model, started_at=DAY, input_tokens=5, cache_read_tokens=1, output_tokens=2)
    record(key.key, "req_b", model=model, started_at=DAY + timedelta(hours=23), reasoning_tokens=3)
    record(key.key, "req_c", model=model, started_at=DAY + timedelta(days=1), cost_nanousd=9, charged_nanousd=9)
    span = {"from_": "2026-11-19", "to": "2026-11-25"}
    first = {"calls": 2, "input_tokens": 6, "output_tokens": 5, "charged_usd": "0.00"}
    second = {"calls": 1, "input_tokens": 0, "output_tokens": 0, "charged_usd": "0.000000009"}
    total = {"calls": 3, "input_tokens": 6, "output_tokens": 5, "charged_usd": "0.000000009"}
    assert read(group_by="day", **span) == [{"day": "2026-11-20", **first}, {"day": "2026-11-21", **second}]
    assert read(group_by="model", **span) == [{"model": model, **total}]
    assert read(group_by="key", **span) == [{"api_key": key.key.public_id, **total}]


def test_a_call_that_was_lost_and_answered_late_is_told_apart(client: Client, key: IssuedKey) -> None:
    model = make_model().name
    record(key.key, "req_late", model=model, status="lost")
    record(key.key, "req_late", model=model, sequence=1)
    rows = client.get("/v1/usage", headers={"authorization": f"Bearer {key.token}"}).json()["data"]
    assert [(row["request_id"], row["sequence"]) for row in rows] == [("req_late", 1), ("req_late", 0)]


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("limit=many", "limit", "invalid_request"),
        ("before=0", "before", "invalid_request"),
        ("before=9223372036854775808", "before", "invalid_request"),
        ("model=", "model", "invalid_request"),
        ("model=%00", "model", "invalid_request"),
        ("api_key=%00", "api_key", "invalid_request"),
        ("from=", "from", "invalid_request"),
        ("from=%00", "from", "invalid_request"),
        ("from=0001-01-01T00:00:00%2B23:59", "from", "invalid_request"),
        ("from=0001-01-02", "from", "invalid_request"),
        ("to=0001-01-02", "to", "invalid_request"),
        ("to=9999-12-31T23:59:59-23:59", "to", "invalid_request"),
        ("to=1970-01-01", "to", "invalid_request"),
        ("from=2026-11-20T00:00:00 01:00", "from", "invalid_request"),
        ("from=9000-01-01", "from", "invalid_request"),
        ("customer=1", "customer", "unknown_parameter"),
        ("customer_id=1&limit=0", "customer_id", "unknown_parameter"),
    ],
)
def test_no_filter_breaks_it(client: Client, key: IssuedKey, query: str, param: str, code: str) -> None:
    answer = client.get(f"/v1/usage?{query}", headers={"authorization": f"Bearer {key.token}"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)


@pytest.mark.parametrize("query", ["before=9223372036854775807", "from=1970-01-01&to=9999-01-01", "to=1970-01-02"])
def test_the_outermost_filters_are_answered(client: Client, key: IssuedKey, query: str) -> None:
    answer = client.get(f"/v1/usage?{query}", headers={"authorization": f"Bearer {key.token}"})
    assert (answer.status_code, answer.json()["data"]) == (200, [])

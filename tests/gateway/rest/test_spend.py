"""GET /v1/spend: exact sums by group and interval, of the caller's customer alone."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from billing import spend
from billing.models import PriceVersion, UsageRecord
from common.ids import make_id
from keys.issuing import IssuedKey
from tests.factories import make_customer, make_key, make_model

pytestmark = pytest.mark.django_db

DAY = datetime(2026, 11, 20, tzinfo=UTC)
Ask = Callable[..., Any]


@pytest.fixture
def key() -> IssuedKey:
    return make_key(name="first")


@pytest.fixture
def ask(client: Client, key: IssuedKey) -> Ask:
    def get(*, status: int = 200, **query: Any) -> Any:
        named = {name.removesuffix("_"): value for name, value in query.items()}
        answer = client.get(f"/v1/spend?{urlencode(named)}", headers={"authorization": f"Bearer {key.token}"})
        assert answer.status_code == status, answer.content
        return answer.json()

    return get


def record(key: IssuedKey, **columns: Any) -> UsageRecord:
    model = columns.pop("model", None) or make_model().name
    started_at = columns.pop("started_at", DAY)
    charged = columns.pop("charged_nanousd", 1)
    return UsageRecord.objects.create(
        **{
            "request_id": make_id("req"),
            "customer_id": key.key.customer_id,
            "api_key": key.key,
            "operation": "chat.completions",
            "model": model,
            "price_version": PriceVersion.objects.filter(model=model).latest("effective_from"),
            "status": "completed",
            "source": "provider",
            "is_stream": False,
            "cost_nanousd": charged,
            "charged_nanousd": charged,
            "started_at": started_at,
            "settled_at": started_at,
            **columns,
        }
    )


def rows(answer: Any) -> list[tuple[Any, ...]]:
    return [(row["start"], row["group"], row["calls"], row["charged_usd"]) for row in answer["data"]]


def test_days_are_utc_and_each_is_dearest_first(key: IssuedKey, ask: Ask) -> None:
    cheap, dear = make_model("cheap").name, make_model("dear").name
    record(key, model=cheap, charged_nanousd=1)
    record(key, model=dear, charged_nanousd=2_000_000_000, started_at=DAY + timedelta(hours=23, minutes=59))
    record(key, model=dear, charged_nanousd=3, started_at=DAY + timedelta(days=1))
    answer = ask(group_by="model", from_="2026-11-20", to="2026-11-22")
    assert rows(answer) == [
        ("2026-11-20T00:00:00Z", "dear", 1, "2.00"),
        ("2026-11-20T00:00:00Z", "cheap", 1, "0.000000001"),
        ("2026-11-21T00:00:00Z", "dear", 1, "0.000000003"),
    ]
    assert answer["total"] == {"calls": 3, "charged_usd": "2.000000004"}


@pytest.mark.parametrize(
    ("interval", "starts"),
    [
        ("hour", ["2026-11-20T00:00:00Z", "2026-11-20T01:00:00Z", "2026-12-01T00:00:00Z"]),
        ("day", ["2026-11-20T00:00:00Z", "2026-12-01T00:00:00Z"]),
        ("month", ["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"]),
        ("none", [None]),
    ],
)
def test_intervals(key: IssuedKey, ask: Ask, interval: str, starts: list[str | None]) -> None:
    model = make_model().name
    for moment in (DAY, DAY + timedelta(hours=1), datetime(2026, 12, 1, tzinfo=UTC)):
        record(key, model=model, started_at=moment)
    answer = ask(interval=interval, from_="2026-11-01", to="2027-01-01")
    assert [row["start"] for row in answer["data"]] == starts
    assert answer["total"]["calls"] == 3


def test_tags_end_users_and_keys_are_groups_and_calls_without_are_one(key: IssuedKey, ask: Ask) -> None:
    model = make_model().name
    other = make_key(make_customer(), name="second")
    record(key, model=model, tags={"team": "blue", "a.b": "x"}, end_user="u1")
    record(key, model=model, tags={"team": "red"}, end_user="u1")
    record(key, model=model)
    record(other, model=model, tags={"team": "theirs"}, end_user="theirs")
    day = {"from_": "2026-11-20", "to": "2026-11-21", "interval": "none"}
    assert {row["group"] for row in ask(group_by="tag:team", **day)["data"]} == {"blue", "red", ""}
    assert {row["group"] for row in ask(group_by="tag:a.b", **day)["data"]} == {"x", ""}
    users = {row["group"]: row["calls"] for row in ask(group_by="end_user", **day)["data"]}
    assert users == {"u1": 2, "": 1}
    (row,) = ask(group_by="key", **day)["data"]
    assert (row["group"], row["label"], row["calls"]) == (key.key.public_id, "first", 3)


def test_tokens_of_every_class_are_summed(key: IssuedKey, ask: Ask) -> None:
    record(
        key,
        input_tokens=1,
        cache_read_tokens=2,
        cache_write_tokens=4,
        audio_input_tokens=8,
        image_input_tokens=16,
        output_tokens=1,
        reasoning_tokens=2,
        audio_output_tokens=4,
        image_output_tokens=8,
    )
    (row,) = ask(from_="2026-11-20", to="2026-11-21")["data"]
    assert (row["input_tokens"], row["output_tokens"]) == (31, 15)


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ({"group_by": "colour"}, "invalid_spend_query", "group_by"),
        ({"group_by": "customer"}, "invalid_spend_query", "group_by"),
        ({"group_by": "tag:"}, "invalid_spend_query", "group_by"),
        ({"group_by": "tag:1"}, "invalid_spend_query", "group_by"),
        ({"group_by": 'tag:a"b'}, "invalid_spend_query", "group_by"),
        ({"interval": "week"}, "invalid_request", "interval"),
        ({"from_": "yesterday"}, "invalid_request", "from"),
        ({"from_": "2026-11-21", "to": "2026-11-20"}, "invalid_request", "from"),
        ({"groupby": "model"}, "unknown_parameter", "groupby"),
    ],
)
def test_what_is_no_question_is_refused_with_the_parameter(
    ask: Ask, query: dict[str, str], code: str, param: str
) -> None:
    error = ask(status=400, **query)["error"]
    assert (error["code"], error["param"]) == (code, param)


def test_an_answer_is_refused_rather_than_cut(key: IssuedKey, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spend, "MOST_ROWS", 2)
    model = make_model().name
    for number in range(3):
        record(key, model=model, end_user=f"u{number}")
    error = ask(status=400, group_by="end_user", from_="2026-11-20", to="2026-11-21")["error"]
    assert (error["code"], error["param"]) == ("invalid_spend_query", "interval")
    assert len(ask(group_by="key", from_="2026-11-20", to="2026-11-21")["data"]) == 1


def test_without_the_scope_nothing_is_told(client: Client) -> None:
    writer = make_key(scopes=["chat:write"])
    answer = client.get("/v1/spend", headers={"authorization": f"Bearer {writer.token}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
    assert client.get("/v1/spend").status_code == 401

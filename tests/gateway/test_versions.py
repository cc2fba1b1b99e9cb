"""Every date of the API is served: each change can be undone, the list is consistent, and the control plane follows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from gateway.errors import ApiVersionUnknown
from gateway.versions import NEWEST, VERSIONS, Document, find_older_shape
from keys.errors import KeyInvalid
from keys.flagging import set_feature
from keys.issuing import IssuedKey, rotate_key
from keys.models import ApiKey, AuditEvent
from keys.pinning import move_key_version
from tests.factories import find_principal, make_key
from tests.gateway.rest.test_usage import record

pytestmark = pytest.mark.django_db

OLDEST = VERSIONS[0].name
NOTICE = timedelta(days=90)


@pytest.fixture
def key() -> IssuedKey:
    return make_key()


def ask(client: Client, key: IssuedKey, path: str, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, headers={"authorization": f"Bearer {key.token}", **named})


def pin_of(key: IssuedKey) -> str:
    return ApiKey.objects.values_list("api_version", flat=True).get(pk=key.key.pk)


def test_dates_rise_and_all_but_the_newest_have_a_sunset_after_due_notice() -> None:
    dates = [version.released_on for version in VERSIONS]
    assert dates == sorted(set(dates))
    assert VERSIONS[-1].deprecated_on is VERSIONS[-1].sunset_on is None
    for version in VERSIONS[:-1]:
        assert version.deprecated_on is not None
        assert version.sunset_on is not None
        assert version.sunset_on - version.deprecated_on >= NOTICE
    for version in VERSIONS[1:]:
        assert version.changes
        assert all(change.undo for change in version.changes)


def test_an_older_run_says_the_same_under_its_older_names(key: IssuedKey) -> None:
    shape = find_older_shape(OLDEST, find_principal(key.token), 0)
    assert shape is not None
    newest = {"id": "req_1", "cost_usd": "0.1", "balance_usd": "9", "timing_ms": {"total": 3}, "attempts": []}
    assert shape.translate(Document.RUN, newest) == {
        "id": "req_1",
        "cost": {"usd": "0.1", "balance_usd": "9"},
        "timing": {"total": 3},
        "attempts": [],
    }


def test_the_newest_date_is_not_translated_and_an_unknown_one_is_refused(key: IssuedKey) -> None:
    principal = find_principal(key.token)
    assert find_older_shape(None, principal, 0) is None
    assert find_older_shape(NEWEST, principal, 0) is None
    for unknown in ("", "2026-09-02", "latest", "x" * 1_000):
        with pytest.raises(ApiVersionUnknown) as refused:
            find_older_shape(unknown, principal, 0)
        assert refused.value.details == {"known": [version.name for version in VERSIONS]}


def test_the_first_call_pins_a_key_and_a_header_moves_nothing(client: Client, key: IssuedKey) -> None:
    assert pin_of(key) == ""
    answer = ask(client, key, "/v1/models", api_version=OLDEST)
    assert (answer.headers["api-version"], pin_of(key)) == (OLDEST, NEWEST)
    answer = ask(client, key, "/v1/models")
    assert answer.headers["api-version"] == NEWEST
    assert "deprecation" not in answer.headers


def test_sums_by_key_have_the_name_of_their_date(client: Client, key: IssuedKey) -> None:
    record(key.key, "req_a")
    path = "/v1/usage?group_by=key"
    (newest,) = ask(client, key, path).json()["data"]
    assert newest["api_key"] == key.key.public_id
    move_key_version(key_id=key.key.pk, api_version=OLDEST, reason="for a test")
    answer = ask(client, key, path)
    (older,) = answer.json()["data"]
    assert older == {**{name: newest[name] for name in newest if name != "api_key"}, "key": key.key.public_id}
    assert answer.headers["deprecation"] == f"@{int(datetime(2026, 11, 21, tzinfo=UTC).timestamp())}"
    assert answer.headers["sunset"] == "Mon, 01 Mar 2027 00:00:00 GMT"
    assert 'rel="deprecation"' in answer.headers["link"]
    assert ask(client, key, path, api_version=NEWEST).json()["data"] == [newest]


def test_a_flag_puts_a_change_in_force_ahead_of_the_keys_date(client: Client, key: IssuedKey) -> None:
    record(key.key, "req_a")
    move_key_version(key_id=key.key.pk, api_version=OLDEST, reason="for a test")
    set_feature(feature="uniform_names", is_on=True, owner=key.key, reason="for a test")
    answer = ask(client, key, "/v1/usage?group_by=key")
    assert answer.json()["data"][0]["api_key"] == key.key.public_id
    assert answer.headers["api-version"] == OLDEST


def test_an_unknown_date_is_400_with_the_list(client: Client, key: IssuedKey) -> None:
    answer = ask(client, key, "/v1/models", api_version="2020-01-01")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unknown_api_version", "API-Version")
    assert error["details"]["known"] == [version.name for version in VERSIONS]


def test_a_key_that_ends_says_so_rather_than_its_date(client: Client, key: IssuedKey) -> None:
    move_key_version(key_id=key.key.pk, api_version=OLDEST, reason="for a test")
    successor = rotate_key(key_id=key.key.pk, overlap=timedelta(hours=1), reason="for a test", author="tests")
    assert pin_of(successor) == OLDEST
    rotated = ApiKey.objects.get(pk=key.key.pk)
    assert rotated.deprecated_at is not None
    answer = ask(client, key, "/v1/models")
    assert answer.headers["deprecation"] == f"@{int(rotated.deprecated_at.timestamp())}"


def test_moving_a_key_is_on_the_trail_and_wants_a_reason(key: IssuedKey) -> None:
    with pytest.raises(KeyInvalid):
        move_key_version(key_id=key.key.pk, api_version=OLDEST, reason=" ")
    move_key_version(key_id=key.key.pk, api_version=OLDEST, reason="their client is older")
    event = AuditEvent.objects.latest("id")
    assert (event.action, event.after, event.reason) == (
        "api_key.version_moved",
        {"api_version": OLDEST},
        "their client is older",
    )


def test_everybody_can_read_the_changelog(client: Client) -> None:
    answer = client.get("/v1/changelog")
    body = answer.json()
    assert (answer.status_code, body["newest"]) == (200, NEWEST)
    assert [entry["version"] for entry in body["data"]] == [version.name for version in reversed(VERSIONS)]
    assert [entry["status"] for entry in body["data"]] == ["current", *["deprecated"] * (len(VERSIONS) - 1)]
    assert body["data"][0]["changes"][0]["feature"] == "uniform_names"
    assert client.post("/v1/changelog").json()["error"]["code"] == "method_not_allowed"

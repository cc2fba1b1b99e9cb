"""Pages that need no key are limited per address."""

import secrets

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from tests.factories import make_key

pytestmark = pytest.mark.django_db

# More than two a minute, also when a minute ends between them.
_BEYOND_TWO = 5


@pytest.mark.parametrize("path", ["/docs", "/v1/openapi.json"])
def test_too_many_requests_without_a_key_are_told_to_wait(client: Client, settings: Settings, path: str) -> None:
    settings.ANONYMOUS_REQUESTS_PER_MINUTE = 2
    address = f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"
    answers = [client.get(path, REMOTE_ADDR=address) for _ in range(_BEYOND_TWO)]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "too_many_requests"
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert client.get(path, REMOTE_ADDR="192.0.2.7").status_code == 200


def test_failed_keys_on_the_control_plane_are_limited_and_right_ones_are_not(
    client: Client, settings: Settings
) -> None:
    settings.FAILED_ATTEMPTS_PER_MINUTE = 2
    address = f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"
    wrong, right = {"authorization": "Bearer nonsense"}, {"authorization": f"Bearer {make_key().token}"}
    answers = [client.get("/v1/balance", headers=wrong, REMOTE_ADDR=address) for _ in range(_BEYOND_TWO)]
    assert [answer.status_code for answer in answers[:2]] == [401, 401]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "too_many_failed_authentications"
    assert "Retry-After" in refused
    assert client.get("/v1/balance", headers=right, REMOTE_ADDR=address).status_code == 200

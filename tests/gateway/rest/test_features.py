"""GET /v1/features: a customer sees which flags there are, and how they stand for the asking key."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from keys.features import FEATURES
from keys.flagging import set_feature
from tests.factories import make_key

pytestmark = pytest.mark.django_db


def read(client: Client, token: str) -> dict[str, dict[str, Any]]:
    answer = client.get("/v1/features", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    return {feature["name"]: feature for feature in answer.json()["data"]}


def test_it_lists_every_flag_with_its_standing(client: Client) -> None:
    key = make_key()
    sister = make_key(key.key.customer)
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    set_feature(feature="resumable_streams", is_on=True, owner=key.key, ends_at=end, reason="for a test")
    found = read(client, key.token)
    assert found.keys() == FEATURES.keys()
    standing = found["resumable_streams"]
    assert (standing["enabled"], standing["set_by"]) == (True, "key")
    assert datetime.fromisoformat(standing["until"]) == end
    assert standing["since"] is not None
    assert (found["uniform_names"]["enabled"], found["uniform_names"]["set_by"]) == (False, "default")
    assert not read(client, sister.token)["resumable_streams"]["enabled"]


def test_it_wants_a_key_and_its_scope(client: Client) -> None:
    assert client.get("/v1/features").status_code == 401
    narrow = make_key(scopes=["chat:write"])
    assert client.get("/v1/features", headers={"authorization": f"Bearer {narrow.token}"}).status_code == 403

"""Who gets in: keys under any accepted pepper, and no view that forgot to say what it asks for."""

from collections.abc import Iterable
from typing import Any

import pytest
from django.test import Client
from pytest_django.fixtures import Settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from common.sql import Sql
from gateway.rest import authentication
from keys.principals import Principal, read_principals_by_hash
from keys.tokens import is_well_formed
from tests.factories import make_key

pytestmark = pytest.mark.django_db


class _NoScopeNamed(APIView):
    def get(self, request: Request) -> Response:
        return Response({"secret": "of a view that forgot its scope"})


def test_a_view_that_names_no_scope_admits_nobody() -> None:
    request = APIRequestFactory().get("/", headers={"authorization": f"Bearer {make_key().token}"})
    answer = _NoScopeNamed.as_view()(request)
    assert answer.status_code == 403
    assert answer.data["error"]["code"] == "permission_denied"
    assert "secret" not in str(answer.data)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(client: Client, scheme: str) -> None:
    assert client.get("/v1/models", headers={"authorization": f"{scheme} {make_key().token}"}).status_code == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic {token}", "{token}", "Bearer {token} {token}", "Bearer é"]
)
def test_a_header_of_another_form_gets_401(client: Client, header: str) -> None:
    answer = client.get("/v1/models", headers={"authorization": header.format(token=make_key().token)})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_a_key_works_under_an_older_pepper_and_not_under_a_dropped_one(client: Client, settings: Settings) -> None:
    token = make_key().token
    headers = {"authorization": f"Bearer {token}"}
    settings.KEY_PEPPERS = ["newer", *settings.KEY_PEPPERS]
    assert client.get("/v1/models", headers=headers).status_code == 200
    settings.KEY_PEPPERS = ["newer"]
    assert client.get("/v1/models", headers=headers).status_code == 401


def test_a_malformed_key_is_looked_up_like_any_other(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []

    def counting(sql: Sql, hashes: Iterable[str]) -> dict[str, Principal]:
        looked_up.append(list(hashes))
        return read_principals_by_hash(sql, hashes)

    monkeypatch.setattr(authentication, "read_principals_by_hash", counting)
    unknown = make_key().token[:-1] + "-"
    assert not is_well_formed(unknown)
    for token in ("nonsense", unknown, make_key().token):
        client.get("/v1/models", headers={"authorization": f"Bearer {token}"})
    assert [len(hashes) for hashes in looked_up] == [1, 1, 1]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/usage", "/v1/balance"])
def test_a_key_is_read_in_one_statement(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []
    original = Sql.rows

    def counting(self: Sql, statement: str, parameters: Any = ()) -> Any:
        statements.append(statement)
        return original(self, statement, parameters)

    monkeypatch.setattr(Sql, "rows", counting)
    client.get(path, headers={"authorization": f"Bearer {make_key().token}"})
    assert sum("keys_apikey" in statement for statement in statements) == 1

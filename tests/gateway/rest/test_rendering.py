"""Every failure has the one shape, and tells a customer nothing that is ours."""

import logging
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.test import Client
from rest_framework import exceptions

from common.errors import InternalError, RateLimited
from gateway.rest import views
from gateway.rest.errors import render_exception
from tests.factories import make_key


@pytest.mark.parametrize(
    ("exception", "status", "code", "param"),
    [
        (Http404("internals"), 404, "not_found", None),
        (exceptions.NotFound("internals"), 404, "not_found", None),
        (exceptions.AuthenticationFailed("internals"), 401, "invalid_api_key", None),
        (exceptions.NotAuthenticated("internals"), 401, "invalid_api_key", None),
        (PermissionDenied("internals"), 403, "permission_denied", None),
        (exceptions.PermissionDenied("internals"), 403, "permission_denied", None),
        (exceptions.ParseError("of the body"), 400, "invalid_body", None),
        (exceptions.UnsupportedMediaType("text/csv"), 400, "invalid_body", None),
        (exceptions.ValidationError({"limit": ["Too large."]}), 400, "invalid_request", "limit"),
        (exceptions.ValidationError(["Wrong."]), 400, "invalid_request", None),
        (SuspiciousOperation("internals"), 400, "invalid_request", None),
        (exceptions.Throttled(wait=7), 429, "rate_limit_exceeded", None),
        (RateLimited("Later.", retry_after_seconds=7), 429, "rate_limit_exceeded", None),
        (InternalError(internal_detail="internals"), 500, "internal_error", None),
        (RuntimeError("internals"), 500, "internal_error", None),
    ],
)
def test_each_exception_becomes_one_status_and_code(
    exception: Exception, status: int, code: str, param: str | None
) -> None:
    answer = render_exception(exception, {})
    error: dict[str, Any] = answer.data["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-should-retry"] == str(error["retryable"]).lower()
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert "internals" not in str(answer.data)


@pytest.mark.django_db
def test_a_fault_of_ours_is_logged_under_the_id_that_the_customer_has(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("the shelf fell down")

    monkeypatch.setattr(views, "read_funds", fail)
    with caplog.at_level(logging.ERROR, logger="gateway.rest.errors"):
        answer = client.get("/v1/balance", headers={"authorization": f"Bearer {make_key().token}"})
    assert answer.status_code == 500
    assert answer.headers["x-should-retry"] == "true"
    assert "shelf" not in answer.content.decode()
    (record,) = [r for r in caplog.records if r.name == "gateway.rest.errors"]
    assert answer.headers["x-request-id"] in record.getMessage()
    assert "BalanceView" in record.getMessage()
    assert "shelf" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/v1/models", "/v1/usage", "/v1/balance", "/v1/nothing"])
@pytest.mark.parametrize("accept", ["text/html", "application/xml", "*/*", "nonsense"])
def test_answers_are_json_whatever_is_accepted(client: Client, path: str, accept: str) -> None:
    answer = client.get(path, headers={"authorization": f"Bearer {make_key().token}", "accept": accept})
    assert answer.status_code == (404 if path == "/v1/nothing" else 200)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/v1/models", "/v1/usage", "/v1/balance"])
def test_every_answer_has_an_id_of_its_own_and_stays_out_of_caches(client: Client, path: str) -> None:
    headers = {"authorization": f"Bearer {make_key().token}"}
    answers = [client.get(path, headers=headers) for _ in range(2)]
    first, second = (answer.headers["x-request-id"] for answer in answers)
    assert first.startswith("req_")
    assert first != second
    assert answers[0].headers["cache-control"] == "no-store"


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_only_get_and_head_are_answered(client: Client, method: str) -> None:
    headers = {"authorization": f"Bearer {make_key().token}"}
    answer = client.generic(method, "/v1/balance", headers=headers)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert client.head("/v1/balance", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/models/", "/v1/usage/", "/v1/usage/req%00", "/v1/usage/a/b"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_paths_that_do_not_exist_are_told_before_any_key_is_asked_for(client: Client, path: str, method: str) -> None:
    answer = client.generic(method, path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert answer.headers["x-request-id"]

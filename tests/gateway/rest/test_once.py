"""`Idempotency-Key` on the control plane: a POST that is sent again changes nothing, and says what the first said."""

from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.test import Client
from pytest_django.fixtures import Settings

from gateway.answer_models import PostAnswer
from gateway.idempotency import KEEP_US
from gateway.rest import keys as keys_views
from gateway.rest import prompts as prompts_views
from gateway.secret_rotation import rotate_secrets
from keys.audit import SYSTEM
from keys.issuing import IssuedKey
from keys.models import ApiKey
from keys.scopes import Scope
from tests.factories import make_customer, make_key

pytestmark = pytest.mark.django_db
KEY = "order-4711"
BODY = {"name": "worker", "scopes": ["chat:write"]}


@pytest.fixture
def issued() -> IssuedKey:
    return make_key(make_customer(), scopes=list(Scope))


def post(client: Client, issued: IssuedKey, path: str = "/v1/keys", body: object = BODY, key: str | None = KEY) -> Any:
    headers = {"authorization": f"Bearer {issued.token}", **({} if key is None else {"idempotency-key": key})}
    return client.post(path, body, content_type="application/json", headers=headers)


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def count_workers() -> int:
    return ApiKey.objects.filter(name="worker").count()


def test_a_repeat_gets_the_same_answer_secret_included_and_makes_nothing(client: Client, issued: IssuedKey) -> None:
    first, second = post(client, issued), post(client, issued, body=dict(reversed(BODY.items())))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert first.json()["secret"].startswith("tk_live_")
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert count_workers() == 1


def test_without_a_key_or_with_another_one_it_happens_again(client: Client, issued: IssuedKey) -> None:
    for key in (None, None, "one", "another"):
        assert post(client, issued, key=key).status_code == 201
    assert count_workers() == 4


def test_what_is_kept_shows_nothing_to_whoever_reads_the_database(client: Client, issued: IssuedKey) -> None:
    answer = post(client, issued).json()
    (row,) = PostAnswer.objects.all()
    assert answer["secret"] not in str(vars(row))
    assert answer["id"] not in str(vars(row))


@pytest.mark.parametrize(("path", "body"), [("/v1/keys", {"name": "other"}), ("/v1/keys/x/rotate", BODY)])
def test_another_body_or_path_under_the_same_key_is_refused(
    client: Client, issued: IssuedKey, path: str, body: dict[str, Any]
) -> None:
    first = post(client, issued)
    answer = post(client, issued, path, body)
    assert code_of(answer) == (422, "idempotency_key_reused")
    assert answer.json()["error"]["details"] == {"first_request_id": first.headers["x-request-id"]}


def test_another_api_key_cannot_fetch_the_secret(client: Client, issued: IssuedKey) -> None:
    post(client, issued)
    sibling = make_key(issued.key.customer, scopes=list(Scope))
    assert code_of(post(client, sibling)) == (422, "idempotency_key_reused")
    stranger = make_key(make_customer(), scopes=list(Scope))
    assert post(client, stranger).status_code == 201


def test_a_refused_post_may_be_sent_again(client: Client, issued: IssuedKey) -> None:
    assert code_of(post(client, issued, body={"name": "worker", "scopes": ["nope"]})) == (400, "invalid_request")
    assert post(client, issued).status_code == 201


def test_what_breaks_midway_leaves_neither_change_nor_claim(
    client: Client, issued: IssuedKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = keys_views.present_key
    monkeypatch.setattr(keys_views, "present_key", lambda key: 1 // 0)
    assert code_of(post(client, issued)) == (500, "internal_error")
    assert (count_workers(), PostAnswer.objects.count()) == (0, 0)
    monkeypatch.setattr(keys_views, "present_key", present)
    assert post(client, issued).status_code == 201


def test_after_a_day_a_key_is_free_again(client: Client, issued: IssuedKey) -> None:
    post(client, issued)
    row = PostAnswer.objects.get()
    PostAnswer.objects.update(expires_us=row.expires_us - KEEP_US)
    assert "idempotency-replayed" not in post(client, issued).headers
    assert count_workers() == 2


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "schlüssel"])
def test_a_malformed_key_is_refused(client: Client, issued: IssuedKey, key: str) -> None:
    assert code_of(post(client, issued, key=key)) == (400, "invalid_idempotency_key")


def test_an_answer_too_large_to_keep_is_not_given_twice(
    client: Client, issued: IssuedKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.kept_answers.MAX_ANSWER_BYTES", 10)
    assert post(client, issued).status_code == 201
    assert code_of(post(client, issued)) == (409, "idempotency_answer_too_large")
    assert count_workers() == 1


def test_an_answer_is_kept_when_the_keys_of_encryption_are_rotated(
    client: Client, issued: IssuedKey, settings: Settings
) -> None:
    first = post(client, issued).json()
    new = Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [new, *settings.ENCRYPTION_KEYS]
    rotate_secrets(actor=SYSTEM)
    settings.ENCRYPTION_KEYS = [new]
    assert post(client, issued).json() == first


def test_an_estimate_is_made_anew(client: Client, issued: IssuedKey) -> None:
    body = {"model": "none", "messages": [{"role": "user", "content": "a"}]}
    assert code_of(post(client, issued, "/v1/estimates", body)) == (404, "model_not_found")
    assert not PostAnswer.objects.exists()


# ---- what is claimed first


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the runner of test cases; return the names of the prompts that were run."""
    found: list[str] = []

    class Report:
        def as_json(self) -> dict[str, Any]:
            return {"passed": True}

    def run(*, name: str, **_: Any) -> Report:
        found.append(name)
        if name == "broken":
            raise RuntimeError(name)
        return Report()

    monkeypatch.setattr(prompts_views, "run_tests_of", run)
    return found


def run_tests(client: Client, issued: IssuedKey, name: str = "greeting") -> Any:
    return post(client, issued, f"/v1/prompts/{name}/tests", {})


def test_a_long_run_is_made_once_and_a_failed_one_may_be_repeated(
    client: Client, issued: IssuedKey, runs: list[str]
) -> None:
    answers = [run_tests(client, issued) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"passed": True}] * 2
    assert answers[1].headers["idempotency-replayed"] == "true"
    PostAnswer.objects.all().delete()
    for _ in range(2):
        assert run_tests(client, issued, "broken").status_code == 500
    assert runs == ["greeting", "broken", "broken"]


def test_a_long_run_in_flight_is_told_and_taken_over_from_a_dead_process(
    client: Client, issued: IssuedKey, runs: list[str]
) -> None:
    run_tests(client, issued)
    PostAnswer.objects.update(status=None, encrypted_body=None)
    answer = run_tests(client, issued)
    assert code_of(answer) == (409, "idempotency_in_flight")
    assert answer.headers["retry-after"] == "1"
    PostAnswer.objects.update(running_until_us=1)
    assert run_tests(client, issued).status_code == 200
    assert run_tests(client, issued).headers["idempotency-replayed"] == "true"
    assert runs == ["greeting", "greeting"]

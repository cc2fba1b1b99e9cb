"""The stock openai SDK reads the list of models, and raises the exception that belongs to each refusal."""

from collections.abc import Callable

import httpx2
import openai
import pytest
from django.test import Client

from keys.issuing import revoke_key
from keys.scopes import Scope
from tests.factories import make_key, make_model

pytestmark = pytest.mark.django_db


class _ToDjango(httpx2.BaseTransport):
    """Hands the SDK's requests to Django's test client, inside the test's transaction."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self._client.generic(
            request.method,
            request.url.raw_path.decode(),
            request.read(),
            headers={name: value for name, value in request.headers.items() if name != "host"},
        )
        return httpx2.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture
def connect(client: Client) -> Callable[[str], openai.OpenAI]:
    def opened(token: str) -> openai.OpenAI:
        http_client = httpx2.Client(transport=_ToDjango(client))
        return openai.OpenAI(base_url="http://testserver/v1", api_key=token, max_retries=0, http_client=http_client)

    return opened


def test_models_are_listed_and_retrieved(connect: Callable[[str], openai.OpenAI]) -> None:
    model = make_model(name="acme/small", owned_by="acme")
    with connect(make_key().token) as sdk:
        (listed,) = list(sdk.models.list())
        one = sdk.models.retrieve(model.name)
    assert one == listed
    assert (one.id, one.object, one.owned_by) == ("acme/small", "model", "acme")
    assert one.created == int(model.created_at.timestamp())
    assert one.model_extra is not None
    assert one.model_extra["pricing"]["input"] == "1.00"


def test_a_revoked_key_raises_authentication_error(connect: Callable[[str], openai.OpenAI]) -> None:
    key = make_key()
    revoke_key(key_id=key.key.pk, reason="leaked")
    with connect(key.token) as sdk, pytest.raises(openai.AuthenticationError) as caught:
        sdk.models.list()
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


def test_a_key_without_the_scope_raises_permission_denied(connect: Callable[[str], openai.OpenAI]) -> None:
    with (
        connect(make_key(scopes=[Scope.CHAT_WRITE]).token) as sdk,
        pytest.raises(openai.PermissionDeniedError) as caught,
    ):
        sdk.models.list()
    assert caught.value.code == "insufficient_scope"


def test_an_unknown_model_raises_not_found(connect: Callable[[str], openai.OpenAI]) -> None:
    with connect(make_key().token) as sdk, pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("nobody")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")

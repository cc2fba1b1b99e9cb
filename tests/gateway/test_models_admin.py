"""The admin of upstreams and models: secrets go in and never come out, what cannot be called says why."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from django.test import Client

from gateway.local_model import PORT_VARIABLE
from gateway.models import Deployment, Dialect, Model, Upstream
from gateway.readiness import read_readiness
from gateway.secrets import decrypt_secret
from gateway.upstream_probe import probe_upstream
from tests.factories import make_model, make_upstream

pytestmark = pytest.mark.django_db

FORM = {
    "name": "openai",
    "dialect": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "is_active": "on",
    "authentication": "bearer",
    "output_limit_parameter": "max_tokens",
    "on_disconnect": "stop",
    "connect_timeout_seconds": "5",
    "first_token_timeout_seconds": "60",
    "idle_timeout_seconds": "30",
    "total_timeout_seconds": "600",
    "note": "",
}


class ModelsHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Bearer sk-right":
            self.send_response(401)
            self.end_headers()
            return
        body = b'{"object": "list", "data": [{"id": "alpha", "object": "model", "created": 1, "owned_by": "x"}]}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ModelsHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_secret_is_encrypted_and_never_shown(admin_client: Client) -> None:
    assert admin_client.post("/admin/gateway/upstream/add/", {**FORM, "secret": "sk-very-secret"}).status_code == 302
    upstream = Upstream.objects.get()
    assert "sk-very-secret" not in upstream.encrypted_secret
    assert decrypt_secret(upstream.encrypted_secret) == "sk-very-secret"
    for path in ("", f"{upstream.pk}/change/", f"{upstream.pk}/history/"):
        text = admin_client.get(f"/admin/gateway/upstream/{path}").content.decode()
        assert "sk-very-secret" not in text
        assert upstream.encrypted_secret not in text


def test_an_empty_secret_keeps_the_stored_one_and_it_can_be_replaced_or_removed(admin_client: Client) -> None:
    upstream = make_upstream(name="openai", secret="sk-old")
    url = f"/admin/gateway/upstream/{upstream.pk}/change/"
    for data, expected in (
        ({"note": "changed"}, "sk-old"),
        ({"secret": "sk-new"}, "sk-new"),
        ({"remove_secret": "on"}, ""),
    ):
        assert admin_client.post(url, {**FORM, **data}).status_code == 302
        upstream.refresh_from_db()
        assert decrypt_secret(upstream.encrypted_secret) == expected


def test_an_upstream_without_address_is_refused(admin_client: Client) -> None:
    answer = admin_client.post("/admin/gateway/upstream/add/", {**FORM, "base_url": ""})
    assert "base_url" in answer.context["adminform"].form.errors


def test_the_connection_test_tells_success_and_each_failure(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PORT_VARIABLE, raising=False)
    right = probe_upstream(make_upstream(base_url=provider, secret="sk-right"))
    assert right.is_ok
    assert "alpha" in right.text
    wrong = probe_upstream(make_upstream(base_url=provider, secret="sk-wrong"))
    assert (wrong.is_ok, "does not accept the secret" in wrong.text, "sk-wrong" in wrong.text) == (False, True, False)
    refused = probe_upstream(make_upstream(base_url="http://127.0.0.1:9/v1"))
    assert (refused.is_ok, "could not be used" in refused.text) == (False, True)
    local = probe_upstream(Upstream.objects.create(name="local", dialect=Dialect.LOCAL))
    assert "child process" in local.text


def test_the_connection_test_reports_as_a_message(admin_client: Client, provider: str) -> None:
    upstream = make_upstream(base_url=provider, secret="sk-right")
    page = admin_client.get(f"/admin/gateway/upstream/{upstream.pk}/test-connection/", follow=True)
    assert "Answered in" in page.content.decode()


def test_a_model_says_what_keeps_it_from_being_called(admin_client: Client) -> None:
    ready, unpriced, unserved = make_model(), make_model(with_price=False), make_model()
    Deployment.objects.filter(model=unserved).update(is_active=False)
    found = read_readiness()
    assert found[ready.pk].is_callable
    assert found[unpriced.pk].obstacles == ["no price in force: calls are refused"]
    assert found[unserved.pk].obstacles == ["no active deployment: nothing serves it"]
    text = admin_client.get("/admin/gateway/model/").content.decode()
    assert "No price in force" in text
    assert "No active deployment" in text


def test_a_model_is_added_with_its_deployment(admin_client: Client) -> None:
    upstream = make_upstream()
    data = {
        "name": "alpha",
        "description": "",
        "is_active": "on",
        "context_window": "8192",
        "max_output_tokens": "2048",
        "default_output_tokens": "256",
        "input_estimate_percent": "100",
        "image_tokens": "1600",
        "owned_by": "tollkeeper",
        "routing": "weights",
        "retries": "1",
        "retry_wait_seconds": "5",
        "attempts_seconds": "120",
        "cache_seconds": "60",
        "cache_limit_seconds": "3600",
        "reused_price_percent": "0",
        "deployments-TOTAL_FORMS": "1",
        "deployments-INITIAL_FORMS": "0",
        "deployments-0-priority": "1",
        "deployments-0-weight": "1",
        "deployments-0-upstream": upstream.pk,
        "deployments-0-upstream_model": "alpha-1",
        "deployments-0-is_active": "on",
    }
    assert admin_client.post("/admin/gateway/model/add/", data).status_code == 302
    assert Model.objects.get().deployments.get().upstream_model == "alpha-1"

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.management import call_command
from pytest_django.fixtures import Settings

from billing.accounts import get_balance
from billing.models import PriceVersion, Transfer
from gateway.demo import CUSTOMER_NAME, ensure_demo
from gateway.local_model import MODEL_NAME
from gateway.models import Deployment, Model, Upstream
from gateway.readiness import find_callable_models
from keys.issuing import revoke_key
from keys.models import ApiKey, Customer, Plan
from tests.factories import find_principal

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_directory(settings: Settings, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return tmp_path


def run_json() -> dict[str, Any]:
    out = io.StringIO()
    call_command("demo_data", "--json", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def run_text() -> str:
    out = io.StringIO()
    call_command("demo_data", stdout=out)
    return out.getvalue()


def test_the_first_run_makes_everything_for_a_call() -> None:
    demo = run_json()
    assert set(demo) == {
        "base_url",
        "api_key",
        "customer_id",
        "model",
        "prompt_name",
        "admin_url",
        "admin_user",
        "admin_password",
    }
    assert demo["base_url"].endswith("/v1")
    assert demo["admin_url"].endswith("/admin/")
    principal = find_principal(demo["api_key"])
    assert (principal.customer_public_id, principal.plan_slug) == (demo["customer_id"], "pro")
    assert get_balance(principal.customer_id).available_nanousd == 5 * 10**9
    assert demo["model"] == MODEL_NAME
    assert MODEL_NAME in find_callable_models()
    admin = User.objects.get(username=demo["admin_user"])
    assert admin.is_superuser
    assert admin.check_password(demo["admin_password"])
    assert set(Plan.objects.values_list("slug", flat=True)) == {"free", "pro", "enterprise"}


def test_a_repeat_prints_the_same_and_makes_nothing() -> None:
    first = run_json()
    counted = (ApiKey, Customer, Plan, Upstream, Model, Deployment, PriceVersion, Transfer, User)
    before = [model._default_manager.count() for model in counted]
    assert run_json() == first
    assert [model._default_manager.count() for model in counted] == before


def test_the_secrets_are_readable_by_their_owner_only(own_directory: Path) -> None:
    run_json()
    assert stat.S_IMODE((own_directory / "demo.json").stat().st_mode) == 0o600
    assert [path.name for path in own_directory.iterdir()] == ["demo.json"]


def test_a_revoked_key_is_replaced() -> None:
    first = run_json()
    revoke_key(key_id=find_principal(first["api_key"]).key_id, reason="leaked")
    second = run_json()
    assert second["api_key"] != first["api_key"]
    assert find_principal(second["api_key"]).is_active(0)
    assert second["customer_id"] == first["customer_id"]


def test_a_key_that_a_new_database_does_not_know_is_issued_again() -> None:
    first = run_json()
    ApiKey.objects.all().delete()
    assert run_json()["api_key"] == first["api_key"]
    assert find_principal(first["api_key"]).is_active(0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"api_key": 5}'])
def test_a_damaged_file_is_written_anew(own_directory: Path, content: str) -> None:
    run_json()
    (own_directory / "demo.json").write_text(content)
    demo = run_json()
    assert find_principal(demo["api_key"]).is_active(0)
    assert demo["admin_password"] is None
    assert Transfer.objects.count() == 1


def test_a_changed_admin_password_stays_and_is_told() -> None:
    first = run_json()
    admin = User.objects.get(username="admin")
    admin.set_password("chosen by a person")
    admin.save()
    assert run_json()["admin_password"] is None
    text = run_text()
    assert "was changed" in text
    assert first["admin_password"] not in text
    assert User.objects.get(username="admin").check_password("chosen by a person")


def test_what_an_admin_changed_stays() -> None:
    run_json()
    Customer.objects.filter(name=CUSTOMER_NAME).update(name="Renamed")
    Plan.objects.filter(slug="pro").update(requests_per_minute=7)
    Model.objects.filter(name=MODEL_NAME).update(is_active=False)
    Deployment.objects.all().delete()
    demo = run_json()
    customer = Customer.objects.get()
    assert (customer.name, customer.public_id) == ("Renamed", demo["customer_id"])
    assert get_balance(customer.pk).posted_nanousd == 5 * 10**9
    assert Plan.objects.get(slug="pro").requests_per_minute == 7
    assert not Model.objects.get(name=MODEL_NAME).is_active
    assert not Deployment.objects.exists()


def test_the_text_shows_login_key_and_a_call_that_streams() -> None:
    demo = run_json()
    text = run_text()
    for shown in (demo["admin_url"], demo["admin_user"], demo["admin_password"], demo["api_key"]):
        assert shown in text
    assert f"curl -N {demo['base_url']}/chat/completions" in text
    assert '"stream": true' in text


def test_no_key_is_in_force_whose_text_could_not_be_kept(own_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.demo.os.open", _disk_full)
    with pytest.raises(OSError, match="disk full"):
        ensure_demo(own_directory)
    assert not ApiKey.objects.exists()
    assert not User.objects.exists()


def _disk_full(*args: object) -> int:
    raise OSError("disk full")


def test_a_database_that_is_not_migrated_is_refused_with_a_hint(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "demo_data"],
        cwd=django_settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "manage.py migrate" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "demo.json").exists()

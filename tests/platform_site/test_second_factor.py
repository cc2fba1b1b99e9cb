"""A code is asked of those who have one, set-up is enforced where it is required, and the door closes on guessers."""

import secrets
from http import HTTPStatus
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django.fixtures import Settings

from gateway.demo import FILE_NAME
from keys.models import AuditEvent
from platform_site.second_factor.states import Mode, find_mode

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

PASSWORD = "correct horse battery"
PAGE = "/admin/second-factor/"
INDEX = "/admin/"


@pytest.fixture
def ada() -> User:
    return User.objects.create_superuser("ada", password=PASSWORD)


@pytest.fixture
def address() -> str:
    return f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"


def login(client: Client, *, password: str = PASSWORD, code: str = "", name: str = "ada", address: str = "") -> int:
    data = {"username": name, "password": password, "otp_token": code, "next": INDEX}
    meta = {"REMOTE_ADDR": address} if address else {}
    return client.post("/admin/login/", data, **meta).status_code  # type: ignore[arg-type]


def code_of(user: User, *, steps_ahead: int = 0) -> str:
    device = TOTPDevice.objects.get(user=user)
    return f"{totp(device.bin_key, t0=-30 * steps_ahead):06d}"


def set_up(client: Client, user: User) -> list[str]:
    """Set up an app in a logged-in session and return the recovery codes."""
    client.get(PAGE)
    answer = client.post(PAGE, {"act": "confirm", "code": code_of(user)})
    codes: list[str] = answer.context["codes"]
    return codes


def opens(client: Client) -> bool:
    return client.get(INDEX).status_code == HTTPStatus.OK


def test_with_a_second_factor_the_password_alone_opens_nothing(client: Client, ada: User) -> None:
    client.force_login(ada)
    set_up(client, ada)
    assert opens(client)
    client.logout()
    assert login(client) == HTTPStatus.OK
    assert login(client, code="000000") == HTTPStatus.OK
    assert not opens(client)
    # A wrong try closes the device for a second; the used step may not be used again.
    TOTPDevice.objects.update(throttling_failure_count=0)
    assert login(client, code=f" {code_of(ada, steps_ahead=1)} ") == HTTPStatus.FOUND
    assert opens(client)


def test_a_session_without_the_code_is_closed_once_the_account_has_one(client: Client, ada: User) -> None:
    other = Client()
    client.force_login(ada)
    other.force_login(ada)
    assert opens(other)
    set_up(client, ada)
    assert not opens(other)
    assert other.get(PAGE).status_code == HTTPStatus.FOUND
    assert opens(client)


def test_a_recovery_code_opens_once(client: Client, ada: User) -> None:
    client.force_login(ada)
    first, *_ = set_up(client, ada)
    client.logout()
    assert login(client, code=first.upper()) == HTTPStatus.FOUND
    client.logout()
    assert login(client, code=first) == HTTPStatus.OK
    assert not opens(client)
    assert AuditEvent.objects.filter(action="second_factor.recovery_code_used").count() == 1


def test_where_it_is_required_nothing_opens_before_it_is_set_up(client: Client, ada: User, settings: Settings) -> None:
    settings.ADMIN_SECOND_FACTOR = "required"
    assert login(client) == HTTPStatus.FOUND
    for path in (INDEX, "/admin/keys/customer/", "/admin/jsi18n/", "/admin/search/", "/admin/password_change/"):
        answer = client.get(path)
        assert (answer.status_code, answer["Location"]) == (HTTPStatus.FOUND, PAGE), path
    assert "requires it" in client.get(PAGE).content.decode()
    assert client.post(PAGE, {"act": "confirm", "code": "nonsense"}).status_code == HTTPStatus.OK
    TOTPDevice.objects.update(throttling_failure_count=0)
    set_up(client, ada)
    assert opens(client)
    client.post(PAGE, {"act": "remove"})
    assert opens(client)
    assert TOTPDevice.objects.filter(confirmed=True).exists()


def test_one_may_log_out_before_setting_up(client: Client, ada: User, settings: Settings) -> None:
    settings.ADMIN_SECOND_FACTOR = "required"
    login(client)
    assert client.post("/admin/logout/").status_code == HTTPStatus.OK
    assert client.get(PAGE)["Location"].startswith("/admin/login/")


def test_where_it_is_optional_the_dashboard_asks_for_it(client: Client, ada: User) -> None:
    login(client)
    assert PAGE in client.get(INDEX).content.decode().partition("attention")[2]
    set_up(client, ada)
    assert "password alone" not in client.get(INDEX).content.decode()
    client.post(PAGE, {"act": "remove"})
    assert not TOTPDevice.objects.exists()


def test_off_asks_for_nothing(client: Client, ada: User, settings: Settings) -> None:
    client.force_login(ada)
    set_up(client, ada)
    client.logout()
    settings.ADMIN_SECOND_FACTOR = "off"
    assert b"otp_token" not in client.get("/admin/login/").content
    assert login(client) == HTTPStatus.FOUND
    assert opens(client)


def test_auto_requires_it_save_for_debug_and_demonstrations(settings: Settings, tmp_path: Path) -> None:
    settings.ADMIN_SECOND_FACTOR, settings.DATA_DIR, settings.DEBUG = "auto", tmp_path, False
    assert find_mode() is Mode.REQUIRED
    settings.DEBUG = True
    assert find_mode() is Mode.OPTIONAL
    settings.DEBUG = False
    (tmp_path / FILE_NAME).touch()
    assert find_mode() is Mode.OPTIONAL


def test_an_outsider_and_a_customer_service_user_reach_no_page_of_it(client: Client) -> None:
    assert client.get(PAGE)["Location"].startswith("/admin/login/")
    client.force_login(User.objects.create_user("no-staff"))
    assert client.get(PAGE)["Location"].startswith("/admin/login/")


def test_a_lost_phone_is_reset_by_another_administrator_or_a_command(client: Client, ada: User) -> None:
    client.force_login(ada)
    set_up(client, ada)
    bob = User.objects.create_superuser("bob", password=PASSWORD)
    client.force_login(bob)
    client.post(f"/admin/auth/user/{ada.pk}/reset-second-factor/", {"reason": "phone lost"})
    event = AuditEvent.objects.get(action="second_factor.removed")
    assert (event.actor_name, event.object_name, event.reason) == ("bob", "ada", "phone lost")
    assert login(Client()) == HTTPStatus.FOUND
    with pytest.raises(CommandError, match="no administrator 'eve'"):
        call_command("reset_second_factor", "eve", reason="x")
    set_up(client, bob)
    call_command("reset_second_factor", "bob", reason="phone lost")
    assert not TOTPDevice.objects.exists()


def test_logins_and_failures_are_recorded_without_what_was_typed(client: Client, ada: User, address: str) -> None:
    login(client, address=address)
    login(client, password="wrong-one", address=address)
    login(client, name="my-typed-password", address=address)
    client.force_login(ada)
    client.post("/admin/logout/")
    events = AuditEvent.objects.filter(action__startswith="login.").order_by("id")
    told = [(e.action, e.object_name) for e in events if e.address == address]
    assert told == [("login.succeeded", "ada"), ("login.failed", "ada"), ("login.failed", "an unknown name")]
    assert events.filter(action="login.ended").exists()
    trail = str(list(AuditEvent.objects.values()))
    assert "wrong-one" not in trail
    assert "my-typed-password" not in trail


def test_changing_ones_own_password_is_recorded(client: Client, ada: User) -> None:
    client.force_login(ada)
    data = {"old_password": PASSWORD, "new_password1": "another secret 2", "new_password2": "differs"}
    assert client.post("/admin/password_change/", data).status_code == HTTPStatus.OK
    assert not AuditEvent.objects.filter(action="user.changed").exists()
    data["new_password2"] = data["new_password1"]
    assert client.post("/admin/password_change/", data).status_code == HTTPStatus.FOUND
    event = AuditEvent.objects.get(action="user.changed")
    assert (event.actor_name, event.object_id, event.after) == ("ada", str(ada.pk), {"password": "(hidden)"})


def test_only_a_superuser_resets_a_second_factor(client: Client, ada: User) -> None:
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    client.force_login(helper)
    answer = client.post(f"/admin/auth/user/{ada.pk}/reset-second-factor/", {"reason": "x"})
    assert answer.status_code == HTTPStatus.FORBIDDEN


def test_five_failures_close_a_name_to_that_address_only(client: Client, ada: User, address: str) -> None:
    answers = [login(client, password="wrong", address=address) for _ in range(5)]
    assert answers == [HTTPStatus.OK] * 4 + [HTTPStatus.TOO_MANY_REQUESTS]
    assert login(client, address=address) == HTTPStatus.TOO_MANY_REQUESTS
    assert login(client, address="192.0.2.1") == HTTPStatus.FOUND
    assert AuditEvent.objects.filter(action="login.locked_out", object_name="ada").count() == 2


def test_an_address_that_fails_with_many_names_is_refused_unread(
    client: Client, ada: User, address: str, settings: Settings
) -> None:
    settings.FAILED_ATTEMPTS_PER_MINUTE = 3
    for number in range(3):
        assert login(client, name=f"name-{number}", address=address) == HTTPStatus.OK
    answer: HttpResponse = client.post("/admin/login/", {"username": "ada", "password": PASSWORD}, REMOTE_ADDR=address)  # type: ignore[assignment]
    assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert 1 <= int(answer["Retry-After"]) <= 60
    assert login(client, address="192.0.2.1") == HTTPStatus.FOUND


def test_scripts_run_from_files_only_and_eval_in_the_admin_only(client: Client) -> None:
    inside, outside = client.get("/admin/login/"), client.get("/docs")
    for answer in (inside, outside):
        policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
        assert "unsafe-inline" not in policy["script-src"]
        assert ("'unsafe-eval'" in policy["script-src"]) is (answer is inside)
        assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
        assert b"<script>" not in answer.content

"""What happens at the admin's door, told to the audit trail; and how it closes before those who keep guessing.

Two limits, and neither lets a stranger lock somebody else out: django-axes closes a name to the address that failed
with it five times, for a quarter of an hour; django-ratelimit closes the login to an address that failed with any
names too often.
"""

from typing import Any

from axes.middleware import AxesMiddleware
from axes.signals import user_locked_out
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from common.addresses import address_of_request
from keys.admin_trail import request_actor
from keys.attempts import AttemptGroup, count_attempt
from keys.audit import Actor, Target, record_event
from keys.models import ActorKind

LOCKOUT_SECONDS = 15 * 60
_NOBODY = "somebody not logged in"


class LockoutMiddleware(AxesMiddleware):
    """Answers locked-out logins. Synchronous: the package's asynchronous path (8.3.1) fails on an undefined name."""

    async_capable = False


def connect_signals() -> None:
    """Listen to Django's and axes' signals; called when the apps are ready."""
    user_logged_in.connect(_note_login, dispatch_uid="platform_site.login")
    user_logged_out.connect(_note_logout, dispatch_uid="platform_site.logout")
    user_login_failed.connect(_note_failure, dispatch_uid="platform_site.login_failed")
    user_locked_out.connect(_note_lockout, dispatch_uid="platform_site.locked_out")


def render_lockout(request: HttpRequest, *_: Any) -> HttpResponse:
    """Answer a login of a name that is closed to this address (axes' AXES_LOCKOUT_CALLABLE)."""
    return refuse_login(request, retry_after_seconds=LOCKOUT_SECONDS)


def refuse_login(request: HttpRequest, *, retry_after_seconds: int) -> HttpResponse:
    """Return the page that says when to try again, as 429."""
    from django.contrib import admin  # noqa: PLC0415 - this module is read while the apps are still being set up

    minutes = -(-retry_after_seconds // 60)
    context = {**admin.site.each_context(request), "title": "Too many failed logins", "minutes": minutes}
    answer = render(request, "platform_site/locked_out.html", context, status=429)
    answer["Retry-After"] = str(retry_after_seconds)
    answer["Cache-Control"] = "no-store"
    return answer


def note_wrong_code(request: HttpRequest | None, user: User) -> None:
    """Record and count a login whose password was right and whose code was not."""
    address = _address(request)
    count_attempt(AttemptGroup.LOGIN, address)
    actor = Actor(kind=ActorKind.STRANGER, name=_NOBODY, address=address)
    record_event(actor=actor, action="login.failed", target=user, reason="the password was right, the code was not")


def note_recovery_code(request: HttpRequest | None, user: User) -> None:
    """Record that a recovery code was used up."""
    actor = Actor(kind=ActorKind.ADMIN, id=str(user.pk), name=user.get_username(), address=_address(request))
    record_event(actor=actor, action="second_factor.recovery_code_used", target=user)


def note_password_change(request: HttpRequest) -> None:
    """Record that an administrator changed their own password."""
    actor = request_actor(request)
    target = Target(kind="auth.user", id=actor.id, name=actor.name)
    record_event(actor=actor, action="user.changed", target=target, after={"password": "changed"})


def _note_login(request: HttpRequest, user: User, **_: Any) -> None:
    actor = Actor(kind=ActorKind.ADMIN, id=str(user.pk), name=user.get_username(), address=_address(request))
    is_verified = getattr(user, "otp_device", None) is not None
    record_event(actor=actor, action="login.succeeded", target=user, after={"second_factor": is_verified})


def _note_logout(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:
        actor = Actor(kind=ActorKind.ADMIN, id=str(user.pk), name=user.get_username(), address=_address(request))
        record_event(actor=actor, action="login.ended", target=user)


def _note_failure(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    address = _address(request)
    count_attempt(AttemptGroup.LOGIN, address)
    if getattr(request, "axes_locked_out", False):
        return  # told by _note_lockout
    name = str(credentials.get("username", ""))
    actor = Actor(kind=ActorKind.STRANGER, name=_NOBODY, address=address)
    record_event(actor=actor, action="login.failed", target=_target_of_name(name))


def _note_lockout(request: HttpRequest, username: str | None, **_: Any) -> None:
    actor = Actor(kind=ActorKind.STRANGER, name=_NOBODY, address=_address(request))
    record_event(actor=actor, action="login.locked_out", target=_target_of_name(username or ""))


def _target_of_name(name: str) -> Target | User:
    """Return the user of a name. An unknown name is not kept: people type their password there by mistake."""
    user = User.objects.filter(username=name.replace("\x00", "")).first()
    return user if user is not None else Target(kind="auth.user", id="", name="an unknown name")


def _address(request: HttpRequest | None) -> str | None:
    return None if request is None else address_of_request(request)

"""The admin site: Unfold's, behind a guarded login and a second factor."""

from collections.abc import Callable
from functools import update_wrapper
from http import HTTPStatus
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from typing_extensions import override
from unfold.sites import UnfoldAdminSite

from common.addresses import address_of_request
from keys.attempts import AttemptGroup, find_wait

_STANDING = "_second_factor_standing"


class TollkeeperAdminSite(UnfoldAdminSite):
    """Nothing of it opens to a session that owes a second factor, but the page where one is set up."""

    login_template = "platform_site/login.html"

    @override
    def has_permission(self, request: HttpRequest) -> bool:
        return self.is_staff(request) and self._standing(request) in ("clear", "unprotected")

    def is_staff(self, request: HttpRequest) -> bool:
        """Return whether the password is given and belongs to an active administrator."""
        return super().has_permission(request)

    @override
    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        guarded: Callable[..., HttpResponseBase] = super().admin_view(view, cacheable)

        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if self.is_staff(request) and self._standing(request) == "needs_enrolment":
                if request.path == reverse("admin:logout"):
                    return self.logout(request)
                return redirect("admin:second_factor")
            return guarded(request, *args, **kwargs)

        return update_wrapper(inner, guarded)

    @override
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Ask for name, password and code; too many failures from an address are answered 429 unread."""
        from platform_site.logins import refuse_login  # noqa: PLC0415 - needs the app registry

        if request.method == "POST":
            wait_seconds = find_wait(AttemptGroup.LOGIN, address_of_request(request))
            if wait_seconds is not None:
                return refuse_login(request, retry_after_seconds=wait_seconds)
        return super().login(request, extra_context)

    @override
    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Change one's own password, with its entry in the audit trail or not at all."""
        from platform_site.logins import note_password_change  # noqa: PLC0415 - needs the app registry

        with transaction.atomic():
            answer = super().password_change(request, extra_context)
            if request.method == "POST" and answer.status_code == HTTPStatus.FOUND:
                note_password_change(request)
        return answer

    def extra_urls(self) -> list[URLPattern]:
        """Return the addresses that Unfold's site adds to its own."""
        from platform_site.second_factor.views import second_factor_view  # noqa: PLC0415 - needs the app registry

        return [path("second-factor/", second_factor_view, name="second_factor")]

    def _standing(self, request: HttpRequest) -> str:
        from platform_site.second_factor.states import find_standing  # noqa: PLC0415 - needs the app registry

        # Asked several times a request, and only the page of the second factor changes it, at its end.
        found: str | None = getattr(request, _STANDING, None)
        if found is None:
            found = find_standing(request.user).value
            setattr(request, _STANDING, found)
        return found

"""The page of one's own second factor: set up, recovery codes, remove."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django_otp import login as mark_verified
from django_otp import user_has_device
from unfold.widgets import UnfoldAdminTextInputWidget

from common.errors import TollkeeperError
from keys.admin_trail import admin_actor
from platform_site.second_factor.enrolment import (
    confirm_enrolment,
    count_recovery_codes,
    make_recovery_codes,
    open_offer,
    remove_second_factor,
)
from platform_site.second_factor.states import Mode, Standing, find_mode, find_standing


class CodeForm(forms.Form):
    """The first code of a new app."""

    code = forms.CharField(
        max_length=10,
        label="Code that the app shows",
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": "", "class": "tk-otp"}
        ),
    )

    def clean_code(self) -> str:
        return "".join(self.cleaned_data["code"].split())


@never_cache
@csrf_protect
def second_factor_view(request: HttpRequest) -> HttpResponseBase:
    """Serve the page. A session that owes its code goes to the login; one that owes its set-up can do that only."""
    user = request.user
    site: Any = admin.site
    standing = find_standing(user) if site.is_staff(request) else Standing.NEEDS_CODE
    if standing is Standing.NEEDS_CODE or not isinstance(user, User):
        return redirect_to_login(request.get_full_path(), "admin:login")
    has_app = user_has_device(user)
    match request.POST.get("act", "") if request.method == "POST" else "":
        case "confirm":
            return _confirm(request, user)
        case "codes" if has_app:
            return _show_codes(request, user)
        case "remove" if has_app and find_mode() is not Mode.REQUIRED:
            remove_second_factor(user, actor=admin_actor(request), reason="by its owner")
            messages.warning(request, "The second factor is off: your password alone opens the admin.")
            return redirect("admin:second_factor")
    if has_app and "replace" not in request.GET:
        return _render(request, "second_factor_on", codes_left=count_recovery_codes(user))
    return _render_offer(request, user, CodeForm())


def _confirm(request: HttpRequest, user: User) -> HttpResponse:
    form = CodeForm(request.POST)
    if not form.is_valid():
        return _render_offer(request, user, form)
    try:
        device = confirm_enrolment(user, code=form.cleaned_data["code"], actor=admin_actor(request))
    except TollkeeperError as error:
        form.add_error("code", error.message)
        return _render_offer(request, user, form)
    mark_verified(request, device)
    # Whoever learnt the old session's cookie has nothing of the new one.
    request.session.cycle_key()
    return _show_codes(request, user)


def _show_codes(request: HttpRequest, user: User) -> HttpResponse:
    codes = make_recovery_codes(user, actor=admin_actor(request))
    answer = _render(request, "second_factor_codes", codes=codes)
    answer["Referrer-Policy"] = "no-referrer"
    return answer


def _render_offer(request: HttpRequest, user: User, form: CodeForm) -> HttpResponse:
    return _render(
        request,
        "second_factor_offer",
        offer=open_offer(user),
        form=form,
        is_forced=find_standing(user) is Standing.NEEDS_ENROLMENT,
    )


def _render(request: HttpRequest, template: str, **context: object) -> HttpResponse:
    whole = {
        **admin.site.each_context(request),
        "title": "Second factor",
        "is_required": find_mode() is Mode.REQUIRED,
        **context,
    }
    answer = TemplateResponse(request, f"platform_site/{template}.html", whole)
    answer["Cache-Control"] = "no-store"
    return answer

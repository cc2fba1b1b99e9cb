"""The admin site as a whole: its index page, and the people who may use it."""

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.safestring import SafeString
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from typing_extensions import override
from unfold.enums import ActionVariant
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextareaWidget

from common.admin_audit import AuditedAdmin
from common.admin_base import page_action
from common.admin_display import admin_url, badge, utc_column
from common.admin_pages import FormPage, run_form_page
from keys.admin_trail import admin_actor
from platform_site.roles import BUILT_IN, ROLES
from platform_site.second_factor.enrolment import remove_second_factor

admin.site.index_template = "platform_site/dashboard.html"
admin.site.index_title = "Dashboard"
admin.site.enable_nav_sidebar = True

admin.site.unregister(User)
admin.site.unregister(Group)


# Their own pages would show secrets and record nothing; `platform_site.second_factor` has what is needed.
for device in (TOTPDevice, StaticDevice):
    admin.site.unregister(device)


class ReasonForm(forms.Form):
    """Why something is done to an administrator."""

    reason = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text="Kept in the audit trail: 'phone lost, called back on the known number'.",
    )


@admin.register(User)
class AdministratorAdmin(DjangoUserAdmin[User], AuditedAdmin):  # type: ignore[misc]
    """Django's own page of users, in Unfold's forms."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_staff", "is_superuser", "role_names", "second_factor", "last_seen")
    last_seen = utc_column("last_login", "Last login", never="never")
    actions_detail: Sequence[str] = ("reset_second_factor",)  # type: ignore[assignment]

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        has_app = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        return super().get_queryset(request).prefetch_related("groups").annotate(has_second_factor=Exists(has_app))

    @admin.display(description="Roles")
    def role_names(self, user: User) -> str:
        return ", ".join(sorted(group.name for group in user.groups.all())) or "-"

    @admin.display(description="Second factor")
    def second_factor(self, user: User) -> SafeString:
        return badge("On", "success") if getattr(user, "has_second_factor", False) else badge("Off", "warning")

    def has_reset_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        # Whoever may merely edit users must not be able to weaken the account of a superuser.
        return bool(getattr(request.user, "is_superuser", False))

    @page_action(
        description="Reset second factor",
        url_path="reset-second-factor",
        icon="phonelink_erase",
        variant=ActionVariant.DANGER,
        permission="reset",
    )
    def reset_second_factor(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        user = get_object_or_404(User, pk=object_id)
        back = admin_url("auth.user", "change", user.pk)
        form = ReasonForm(request.POST or None)

        def act() -> HttpResponseBase:
            had = remove_second_factor(user, actor=admin_actor(request), reason=form.cleaned_data["reason"])
            text = "has no second factor any more" if had else "had none"
            messages.success(request, f"{user.get_username()} {text}.")
            return redirect(back)

        page = FormPage(
            title=f"Reset the second factor of {user.get_username()}",
            submit_label="Reset second factor",
            cancel_url=back,
            is_danger=True,
            intro=(
                "For a lost phone. App and recovery codes stop working; until a new app is set up the password alone "
                "opens what this installation allows without a second factor. Make sure that it is really them who ask."
            ),
        )
        return run_form_page(cast("admin.ModelAdmin[Model]", self), request, page, form, act=act)

    @override
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:
        with transaction.atomic():  # a password is changed with its entry in the trail, or not at all
            return super().user_change_password(request, id, form_url)


@admin.register(Group)
class RoleAdmin(DjangoGroupAdmin, AuditedAdmin):  # type: ignore[misc]
    """Sets of permissions. The built-in ones are what `platform_site.roles` says, on every installation."""

    list_display = ("name", "purpose")

    @admin.display(description="What it is for")
    def purpose(self, group: Group) -> str:
        return next((role.purpose for role in ROLES if role.name == group.name), "made here")

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not _is_built_in(obj) and super().has_change_permission(request, obj)

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not _is_built_in(obj) and super().has_delete_permission(request, obj)


def _is_built_in(group: object) -> bool:
    return isinstance(group, Group) and group.name in BUILT_IN

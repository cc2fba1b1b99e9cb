"""The admin site as a whole: its index page, and the people who may use it."""

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import link, utc_column

# Unfold puts its own site in the place of Django's, so it is set up here and not subclassed.
admin.site.index_template = "platform_site/dashboard.html"
admin.site.index_title = "Dashboard"
admin.site.enable_nav_sidebar = True

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class AdministratorAdmin(DjangoUserAdmin[User], ModelAdmin):  # type: ignore[misc]
    """Django's own page of users, in Unfold's forms."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_staff", "is_superuser", "last_login")


@admin.register(Group)
class RoleAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]
    """Sets of permissions."""


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyModelAdmin[LogEntry]):
    """Who changed what in the admin."""

    list_display = ("time", "user", "action_flag", "what", "page", "message")
    list_display_links = None
    list_filter = (("action_flag", ChoicesDropdownFilter),)
    list_select_related = ("user", "content_type")
    ordering = ("-action_time", "-id")
    fields = ("time", "user", "action_flag", "what", "page", "message")

    time = utc_column("action_time", "Time")

    @admin.display(description="Kind of thing")
    def what(self, entry: LogEntry) -> str:
        return "-" if entry.content_type is None else entry.content_type.name.capitalize()

    @admin.display(description="Thing")
    def page(self, entry: LogEntry) -> SafeString | str:
        url = entry.get_admin_url()
        return entry.object_repr if url is None else link(url, entry.object_repr)

    @admin.display(description="What was done")
    def message(self, entry: LogEntry) -> str:
        return entry.get_change_message()

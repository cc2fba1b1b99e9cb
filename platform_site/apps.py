import sys

from django.apps import AppConfig, apps
from django.contrib.admin.apps import SimpleAdminConfig
from django.db.models.signals import post_migrate

# Commands that carry rows by the million and show no page: the admin's pages would be a quarter of their memory, and
# most of the time in which they start.
_WITHOUT_PAGES = frozenset({"export", "export_scheduled", "reconcile", "retention"})


class TollkeeperAdminConfig(SimpleAdminConfig):
    """Django's admin with our own site in the place of its own."""

    default_site = "platform_site.site.TollkeeperAdminSite"

    def ready(self) -> None:
        super().ready()
        if _WITHOUT_PAGES.isdisjoint(sys.argv[1:2]):
            self.module.autodiscover()  # type: ignore[union-attr]


class PlatformSiteConfig(AppConfig):
    name = "platform_site"
    verbose_name = "Platform"

    def ready(self) -> None:
        from platform_site import checks  # noqa: F401 - registers the system checks
        from platform_site.logins import connect_signals
        from platform_site.roles import write_roles_after_migrate

        connect_signals()
        # The signal is sent for apps that have models, in their order: after the last of them all permissions exist.
        last = [config for config in apps.get_app_configs() if config.models_module is not None][-1]
        post_migrate.connect(write_roles_after_migrate, sender=last, dispatch_uid="platform_site.roles")

from django.apps import AppConfig, apps
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class TollkeeperAdminConfig(AdminConfig):
    """Django's admin with our own site in the place of its own."""

    default_site = "platform_site.site.TollkeeperAdminSite"


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

from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate


class CommonConfig(AppConfig):
    name = "common"
    verbose_name = "Common"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from common import protections

        pre_migrate.connect(protections.lift_before_migrate, dispatch_uid="common.lift_protections")
        post_migrate.connect(protections.reinstall_after_migrate, dispatch_uid="common.reinstall_protections")

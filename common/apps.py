from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CommonConfig(AppConfig):
    name = "common"
    verbose_name = "Common"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from common import protections  # noqa: PLC0415 - the registry of models is ready only now

        post_migrate.connect(protections.reinstall_after_migrate, dispatch_uid="common.reinstall_protections")

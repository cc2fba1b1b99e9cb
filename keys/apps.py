from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = "Customers and keys"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.db.models.signals import post_migrate

        from common.admin_audit import plug_in_trail
        from keys.admin_trail import KeysTrail
        from keys.plans import seed_plans_after_migrate

        post_migrate.connect(seed_plans_after_migrate, sender=self, dispatch_uid="keys.seed_plans")
        plug_in_trail(KeysTrail())

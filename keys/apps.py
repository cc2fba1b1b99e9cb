from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = "Customers and keys"
    default_auto_field = "django.db.models.BigAutoField"

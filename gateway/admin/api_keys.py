"""API keys that know which models there are."""

from django.contrib import admin
from typing_extensions import override

from gateway.readiness import find_callable_models
from keys.admin.api_keys import ApiKeyAdmin
from keys.models import ApiKey


@admin.register(ApiKey)
class ModelAwareApiKeyAdmin(ApiKeyAdmin):
    @override
    def find_model_names(self) -> list[str]:
        return find_callable_models()

"""Price versions that know which models there are."""

from django.contrib import admin
from typing_extensions import override

from billing.admin.prices import PriceVersionAdmin
from billing.models import PriceVersion
from gateway.models import Model


@admin.register(PriceVersion)
class ModelAwarePriceVersionAdmin(PriceVersionAdmin):
    @override
    def find_model_names(self) -> list[str]:
        return list(Model.objects.order_by("name").values_list("name", flat=True))

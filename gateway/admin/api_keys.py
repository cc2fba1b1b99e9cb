"""API keys that know which models there are and how they are used."""

import json
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from typing_extensions import override

from billing.admin.charts import DAY_CHART_OPTIONS, day_chart
from billing.statistics import read_key_days
from common.admin_base import page_action
from common.admin_display import admin_url
from common.money import format_usd
from common.wording import counted
from gateway.admin.key_versions import run_version_page
from gateway.readiness import find_callable_models
from keys.admin.api_keys import ApiKeyAdmin
from keys.models import ApiKey

_DAYS = 30


@admin.register(ApiKey)
class ModelAwareApiKeyAdmin(ApiKeyAdmin):
    # How the key stands comes before the long form that changes it.
    change_form_outer_before_template = "gateway/admin/api_key_usage.html"  # type: ignore[assignment]
    change_form_outer_after_template = None  # type: ignore[assignment]

    actions_detail = (*ApiKeyAdmin.actions_detail, "move_version")  # type: ignore[assignment]

    @page_action(description="API version", url_path="api-version", icon="event", permission="revoke")
    def move_version(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return run_version_page(self, request, get_object_or_404(ApiKey, pk=object_id))

    @override
    def find_model_names(self) -> list[str]:
        return find_callable_models()

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context = _usage_context(int(object_id)) if object_id and object_id.isdigit() else {}
        key = self.get_object(request, object_id) if object_id else None
        if key is not None and key.state() != "active":
            context["key_state"] = self.state_detail(key)
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})


def _usage_context(key_id: int) -> dict[str, Any]:
    days = read_key_days(key_id, _DAYS, now=datetime.now(UTC))
    calls = sum(day.calls for day in days)
    spent = sum(day.charged_nanousd for day in days)
    return {
        "usage_chart": json.dumps(day_chart(days)),
        "usage_chart_options": json.dumps(DAY_CHART_OPTIONS),
        "usage_has_calls": bool(calls),
        "usage_summary": f"{counted(calls, 'call')}, {format_usd(spent)} USD in the last {_DAYS} days",
        "usage_url": f"{admin_url('billing.usagerecord', 'changelist')}?api_key__id__exact={key_id}",
    }

"""Models: what customers call, how it is served, and the price in force."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.admin import TabularInline

from billing.pricing import Price
from common.admin_base import PlatformModelAdmin, page_action, page_facts
from common.admin_display import admin_link, admin_url, badge, link
from common.money import format_usd
from gateway.admin.health import health_panel, reset_view
from gateway.admin.plans import show_plan
from gateway.capabilities import CAPABILITY_COLUMNS
from gateway.models import Deployment, Model
from gateway.readiness import Readiness, read_readiness


@admin.register(Deployment)
class DeploymentAdmin(PlatformModelAdmin[Deployment]):
    """Reached from its model: where this model differs from what its upstream can do."""

    list_display = ("__str__", "model", "upstream", "is_active")
    list_select_related = ("model", "upstream")
    ordering = ("model", "priority", "id")
    fieldsets = (
        (None, {"fields": ("model", "upstream", "upstream_model", "is_active")}),
        (
            "When it is called",
            {
                "fields": ("priority", "weight", "region", "input_cost_nanousd", "output_cost_nanousd"),
                "description": "Among deployments of the same priority, the model's routing decides.",
            },
        ),
        (
            "Where this model differs from its upstream",
            {
                "fields": CAPABILITY_COLUMNS,
                "description": "Unknown: as the upstream. A call that asks for what no deployment of its model can do "
                "is refused, with the way out.",
            },
        ),
    )

    @override
    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    @override
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.reset_view)
        return [path("<int:object_id>/reset/", view, name="gateway_deployment_reset"), *super().get_urls()]

    def reset_view(self, request: HttpRequest, object_id: int) -> HttpResponseBase:
        """Ask for a reason, and let the deployment be called again."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        return reset_view(self, request, object_id)


class DeploymentInline(TabularInline):
    model = Deployment
    show_change_link = True
    extra = 0
    fields = ("priority", "weight", "upstream", "upstream_model", "region", "is_active")
    ordering = ("priority", "id")
    verbose_name_plural = "Deployments: tried in order of priority"


@admin.register(Model)
class ModelAdmin(PlatformModelAdmin[Model]):
    list_display = ("name", "readiness", "input_price", "output_price", "window", "owned_by", "is_active")
    list_filter = ("is_active",)
    search_fields = ("name", "description")
    ordering = ("name", "id")
    inlines = (DeploymentInline,)
    actions_detail = ("show_plan", "publish_price", "purge_answers")
    change_form_outer_after_template = "common/admin/panels.html"  # type: ignore[assignment]
    readonly_fields = ("readiness", "price_in_force")
    fieldsets = (
        (None, {"fields": ("name", "description", "is_active", "readiness", "price_in_force")}),
        (
            "Sizes",
            {
                "fields": (
                    "context_window",
                    "max_output_tokens",
                    "default_output_tokens",
                    "input_estimate_percent",
                    "image_tokens",
                    "owned_by",
                ),
                "description": "In tokens. They bound what a call may ask for, and so what is held for it.",
            },
        ),
        (
            "Routing and further attempts",
            {
                "fields": ("routing", "retries", "retry_wait_seconds", "attempts_seconds", "hedge_after_ms"),
                "description": "A call goes on to the next deployment while its client has seen nothing. It is charged "
                "once, however many attempts it takes.",
            },
        ),
        (
            "Reusing answers",
            {
                "fields": ("cache_seconds", "cache_limit_seconds", "cache_is_shared", "reused_price_percent"),
                "description": "The same call, word for word, gets the answer that it had. A caller can always ask for "
                "a fresh one (Cache-Control: no-cache). Each answer is the same to the last letter, also where the "
                "model would have said something new.",
            },
        ),
        ("Charging", {"fields": ("no_charge_on",)}),
    )

    @override
    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is not None:
            return fieldsets
        shown = tuple(f for f in fieldsets[0][1]["fields"] if f not in self.readonly_fields)
        return ((None, {"fields": shown}), *fieldsets[1:])

    @override
    def read_page_facts(self, rows: Sequence[Model]) -> Mapping[Any, object]:
        return read_readiness([model.pk for model in rows])

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        if not change:
            obj.created_at = datetime.now(UTC)
        super().save_model(request, obj, form, change)

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context: dict[str, Any] = {}
        if object_id and object_id.isdigit():
            deployments = Deployment.objects.filter(model_id=object_id).select_related("upstream")
            may_reset = request.user.has_perm("gateway.change_deployment")
            panel = health_panel(list(deployments.order_by("priority", "id")), may_reset=may_reset)
            context["panels"] = [panel]
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def has_plan_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.has_view_permission(request)

    @page_action(description="Where would a call go?", url_path="plan", icon="route", permission="plan")
    def show_plan(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return show_plan(self, request, get_object_or_404(Model, pk=object_id))

    @admin.display(description="Can be called")
    def readiness(self, model: Model) -> SafeString:
        found = _readiness_of(model)
        if found.is_callable:
            return badge("Yes", "success")
        if not found.is_active:
            return badge("Switched off")
        texts = [(badge(text.partition(":")[0].capitalize(), "danger", title=text),) for text in found.obstacles]
        return format_html_join(" ", "{}", texts)

    @admin.display(description="Input, USD per 1M")
    def input_price(self, model: Model) -> str:
        price = _readiness_of(model).price
        return "-" if price is None else format_usd(price.rates.input)

    @admin.display(description="Output, USD per 1M")
    def output_price(self, model: Model) -> str:
        price = _readiness_of(model).price
        return "-" if price is None else format_usd(price.rates.output)

    @admin.display(description="Context window", ordering="context_window")
    def window(self, model: Model) -> str:
        return f"{model.context_window:,}"

    @admin.display(description="Price in force")
    def price_in_force(self, model: Model) -> SafeString:
        price = _readiness_of(model).price
        publish = link(f"{admin_url('billing.priceversion', 'add')}?model={model.name}", "Publish a price")
        if price is None:
            return format_html("None, so every call is refused. {}", publish)
        version = admin_link("billing.priceversion", price.version_id, f"version {price.version_id}")
        return format_html("{} USD per 1M tokens ({}). {}", _rates_text(price), version, publish)

    def has_publish_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("billing.add_priceversion")

    def has_purge_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return request.user.has_perm("gateway.add_cachepurge")

    @page_action(description="Purge cached answers", url_path="purge", icon="cached", permission="purge")
    def purge_answers(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        model = get_object_or_404(Model, pk=object_id)
        return redirect(f"{admin_url('gateway.cachepurge', 'add')}?scope=model&model={model.name}")

    @page_action(description="Publish a price", url_path="publish-price", icon="sell", permission="publish")
    def publish_price(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        model = get_object_or_404(Model, pk=object_id)
        return redirect(f"{admin_url('billing.priceversion', 'add')}?model={model.name}")


def _readiness_of(model: Model) -> Readiness:
    found = page_facts(model)
    return found if isinstance(found, Readiness) else read_readiness([model.pk])[model.pk]


def _rates_text(price: Price) -> str:
    rates = price.rates
    named = (("input", rates.input), ("cache read", rates.cache_read), ("output", rates.output))
    return ", ".join(f"{name} {format_usd(rate)}" for name, rate in named)

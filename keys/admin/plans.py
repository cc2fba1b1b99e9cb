"""Plans: named limits."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from typing_extensions import override

from common.admin_base import PlatformModelAdmin
from common.admin_display import number
from common.money import format_usd
from keys.admin.limits import EXPLAIN_PLAN, LimitTexts, limit_fieldsets
from keys.models import Plan


@admin.register(Plan)
class PlanAdmin(LimitTexts, PlatformModelAdmin[Plan]):
    view_names = LimitTexts.limit_view_names
    list_display = (
        "name",
        "slug",
        "is_paid",
        "requests",
        "input_tokens",
        "output_tokens",
        "parallel",
        "day_budget",
        "month_budget",
        "total_budget",
    )
    search_fields = ("name", "slug")
    ordering = ("name", "id")
    fieldsets = (
        (None, {"fields": ("name", "slug", "description", "is_paid", "reused_price_percent")}),
        *limit_fieldsets(EXPLAIN_PLAN),
    )

    @override
    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Declarations name a plan by its slug, so only a new plan's follows the name.
        return {"slug": ("name",)} if obj is None else {}

    @admin.display(description="Requests/min")
    def requests(self, plan: Plan) -> str:
        return _limit(plan.requests_per_minute)

    @admin.display(description="Input tokens/min")
    def input_tokens(self, plan: Plan) -> str:
        return _limit(plan.input_tokens_per_minute)

    @admin.display(description="Output tokens/min")
    def output_tokens(self, plan: Plan) -> str:
        return _limit(plan.output_tokens_per_minute)

    @admin.display(description="In flight")
    def parallel(self, plan: Plan) -> str:
        return _limit(plan.concurrency)

    @admin.display(description="USD/day")
    def day_budget(self, plan: Plan) -> str:
        return _budget(plan.spend_per_day_nanousd)

    @admin.display(description="USD/month")
    def month_budget(self, plan: Plan) -> str:
        return _budget(plan.spend_per_month_nanousd)

    @admin.display(description="USD in all")
    def total_budget(self, plan: Plan) -> str:
        return _budget(plan.spend_total_nanousd)


def _limit(value: int | None) -> str:
    return "unlimited" if value is None else number(value)


def _budget(value: int | None) -> str:
    return "unlimited" if value is None else format_usd(value)

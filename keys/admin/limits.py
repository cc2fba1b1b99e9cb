"""How limits are edited: the same fields on plans, customers and keys, with what "empty" means at each level."""

from typing import Any

from django.contrib import admin
from django.forms import BaseForm

from common.admin_fields import UsdField
from common.money import format_usd
from keys.limit_values import BUDGET_COLUMNS, LIMIT_COLUMNS, RATE_COLUMNS, EndpointClass
from keys.models import LimitColumns

EXPLAIN_PLAN = (
    "Each customer of the plan has the whole of it for itself. Empty means unlimited. Rates refill continuously and "
    "hold at most one minute's worth; budgets are of the UTC day and calendar month; money is in plain decimal USD."
)
EXPLAIN_CUSTOMER = (
    "Empty: the plan's value counts (shown in grey). A value here replaces the plan's, whether lower or higher."
)
EXPLAIN_KEY = (
    "On top of the customer's limits, never instead of them: a call has to fit into both. Empty: only the customer's "
    "limits count."
)


_EXPLAIN_BUDGETS = (
    "Hard stops: a call that might go beyond is refused before it begins. Day and month are UTC and reset by "
    "themselves; the total never does."
)
_EXPLAIN_CLASSES = (
    "Rates count per class of endpoints, so that none of these takes from chat. Places in flight and budgets count "
    "over all classes together."
)


class LimitTexts:
    """Display methods for pages that only show."""

    limit_view_names = {
        f"{name}_nanousd": f"{name}_text" for name in ("spend_per_day", "spend_per_month", "spend_total")
    }

    @admin.display(description="Spend per day (USD)")
    def spend_per_day_text(self, owner: LimitColumns) -> str:
        return _budget_text(owner.spend_per_day_nanousd)

    @admin.display(description="Spend per month (USD)")
    def spend_per_month_text(self, owner: LimitColumns) -> str:
        return _budget_text(owner.spend_per_month_nanousd)

    @admin.display(description="Spend in all (USD)")
    def spend_total_text(self, owner: LimitColumns) -> str:
        return _budget_text(owner.spend_total_nanousd)


def limit_fieldsets(explanation: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return the fieldsets of limits."""
    chat = tuple(RATE_COLUMNS[EndpointClass.CHAT].values())
    others = tuple(
        column
        for endpoint_class, columns in RATE_COLUMNS.items()
        if endpoint_class is not EndpointClass.CHAT
        for column in columns.values()
    )
    return (
        ("Limits", {"fields": (*chat, "concurrency", "max_input_tokens"), "description": explanation}),
        ("Budgets", {"fields": tuple(BUDGET_COLUMNS.values()), "description": _EXPLAIN_BUDGETS}),
        (
            "Other endpoints and bursts",
            {"fields": (*others, "burst_seconds"), "description": _EXPLAIN_CLASSES, "classes": ("collapse",)},
        ),
    )


def show_inherited(form: BaseForm, source: LimitColumns, name: str) -> None:
    """Show in the empty limit fields of `form` what counts instead: the values of `source`, called `name`."""
    for column in LIMIT_COLUMNS:
        field = form.fields.get(column)
        if field is not None:
            value = getattr(source, column)
            shown = "unlimited" if value is None else _text(field, value)
            field.widget.attrs["placeholder"] = f"{name}: {shown}"


def limits_of(cleaned: dict[str, Any]) -> dict[str, int | None]:
    """Return the limits of a form's cleaned data."""
    return {column: cleaned.get(column) for column in LIMIT_COLUMNS}


def _budget_text(value: int | None) -> str:
    return "-" if value is None else format_usd(value)


def _text(field: object, value: int) -> str:
    return f"{format_usd(value)} USD" if isinstance(field, UsdField) else f"{value:,}"

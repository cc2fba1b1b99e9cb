"""How limits are edited: the same fields on plans, customers and keys, with what "empty" means at each level."""

from typing import Any

from django.contrib import admin
from django.forms import BaseForm

from common.admin_fields import UsdField
from common.money import format_usd
from keys.limits import LIMIT_COLUMNS
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


class LimitTexts:
    """Display methods for pages that only show."""

    limit_view_names = {f"{name}_nanousd": f"{name}_text" for name in ("spend_per_day", "spend_per_month")}

    @admin.display(description="Spend per day (USD)")
    def spend_per_day_text(self, owner: LimitColumns) -> str:
        return _budget_text(owner.spend_per_day_nanousd)

    @admin.display(description="Spend per month (USD)")
    def spend_per_month_text(self, owner: LimitColumns) -> str:
        return _budget_text(owner.spend_per_month_nanousd)


def limit_fieldset(explanation: str) -> tuple[str, dict[str, Any]]:
    """Return the fieldset of limits."""
    return "Limits", {"fields": LIMIT_COLUMNS, "description": explanation}


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

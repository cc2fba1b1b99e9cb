"""Billing profiles: to whom a customer's invoices go, by which calendar and tax."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from typing_extensions import override

from billing.invoice_models import WHOLE_MILLIONTHS, BillingProfile
from common.admin_base import PlatformModelAdmin
from common.admin_fields import PercentField
from common.percents import format_percent


class ProfileForm(forms.ModelForm[BillingProfile]):
    """Asks for the tax in percent."""

    tax_millionths = PercentField(
        max_points=WHOLE_MILLIONTHS,
        decimals=4,
        label="Tax (%)",
        help_text="Percent of what is left to pay, such as 19 or 8.875. 0: none.",
    )


@admin.register(BillingProfile)
class BillingProfileAdmin(PlatformModelAdmin[BillingProfile]):
    form = ProfileForm
    list_display = ("customer", "legal_name", "country", "tax", "time_zone", "payment_days")
    list_select_related = ("customer",)
    search_fields = ("customer__name", "legal_name", "tax_id__exact")
    search_help_text = "Customer, legal name or tax id"
    ordering = ("customer__name", "id")
    autocomplete_fields = ("customer",)
    fieldsets = (
        (None, {"fields": ("customer", "legal_name", "address", "country", "tax_id", "email")}),
        (
            "Months and payment",
            {
                "fields": ("time_zone", "tax_millionths", "payment_days"),
                "description": "What is changed here counts from the next close on: an issued invoice stays as it is.",
            },
        ),
    )

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("customer",)

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # The defaults are a profile too: empty the fields instead.
        return False

    @admin.display(description="Tax")
    def tax(self, profile: BillingProfile) -> str:
        return format_percent(profile.tax_millionths, decimals=4)

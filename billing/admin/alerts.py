"""Alerts in the admin: who was told what, and what could not be sent."""

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter

from billing.admin.filters import RecentFilter
from billing.finance_models import Alert, AlertKind
from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import admin_link, badge, usd_column, utc_column


class RecentAlertsFilter(RecentFilter):
    column = "created_at"


@admin.register(Alert)
class AlertAdmin(ReadOnlyModelAdmin[Alert]):
    list_display = ("created", "customer_link", "key", "what", "amount", "limit", "state")
    list_display_links = ("created",)
    list_filter = (RecentAlertsFilter, ("kind", ChoicesDropdownFilter), ("customer", AutocompleteSelectFilter))
    list_select_related = ("customer", "api_key")
    ordering = ("-created_at", "-id")
    fields = (
        "created",
        "customer_link",
        "key",
        "what",
        "amount",
        "limit",
        "state",
        "sent",
        "recipients",
        "attempts",
        "problem",
    )

    created = utc_column("created_at", "Noticed (UTC)", zone="")
    sent = utc_column("sent_at", "Sent", never="not yet")
    amount = usd_column("amount_nanousd", "Spent, or left (USD)")
    limit = usd_column("limit_nanousd", "Budget, or least balance (USD)")

    @admin.display(description="Customer")
    def customer_link(self, alert: Alert) -> SafeString:
        return admin_link("keys.customer", alert.customer_id, alert.customer.name)

    @admin.display(description="Key")
    def key(self, alert: Alert) -> SafeString | str:
        return "-" if alert.api_key is None else admin_link("keys.apikey", alert.api_key_id, str(alert.api_key))

    @admin.display(description="What")
    def what(self, alert: Alert) -> str:
        kind = AlertKind(alert.kind)
        return kind.label if kind is AlertKind.LOW_BALANCE else f"{kind.label}: {alert.percent} %"

    @admin.display(description="Mail")
    def state(self, alert: Alert) -> SafeString:
        if alert.is_superseded:
            return badge("told by a higher one", title="A higher threshold was reached at the same moment.")
        if alert.sent_at is not None:
            return badge("sent", "success", title=alert.recipients)
        return badge("not sent", "danger" if alert.problem else "warning", title=alert.problem)

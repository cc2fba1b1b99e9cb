"""How the admin looks and where its pages are found: Unfold's settings, imported by `platform_site.settings`."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

# Every moment that a page shows says that it is UTC.
DATETIME_FORMAT = r"Y-m-d H:i:s \U\T\C"


def _item(title: str, icon: str, model: str) -> dict[str, Any]:
    app_label, _, model_name = model.partition(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app_label}_{model_name}_changelist"),
        "permission": _may_view(f"{app_label}.view_{model_name}"),
    }


def _may_view(permission: str) -> Any:
    def check(request: HttpRequest) -> bool:
        return request.user.has_perm(permission)

    return check


def _is_below(part: str, *, but: tuple[str, ...] = ()) -> Any:
    """Return a check whether a request is for an address with `part` in it: two items share one model's pages."""

    def check(request: HttpRequest) -> bool:
        return part in request.path and not request.path.endswith(but)

    return check


# Grouped by what people come to do, not by app.
_NAVIGATION = [
    {
        "items": [{"title": "Dashboard", "icon": "space_dashboard", "link": reverse_lazy("admin:index")}],
    },
    {
        "title": "Customers & keys",
        "items": [
            _item("Customers", "groups", "keys.customer"),
            _item("API keys", "key", "keys.apikey"),
            _item("Plans", "tune", "keys.plan"),
            _item("Flags", "flag", "keys.featurerule"),
        ],
    },
    {
        "title": "Models & upstreams",
        "items": [
            _item("Models", "neurology", "gateway.model"),
            _item("Upstreams", "dns", "gateway.upstream"),
            _item("Prices", "sell", "billing.priceversion"),
            _item("Price terms", "percent", "billing.priceterms"),
        ],
    },
    {
        "title": "Content guards",
        "items": [
            _item("Policies", "policy", "gateway.guardpolicy"),
            {
                **_item("Report", "query_stats", "gateway.guarddecision"),
                "link": reverse_lazy("admin:gateway_guarddecision_report"),
                "active": _is_below("guarddecision/report/"),
            },
            {
                **_item("Decisions", "gavel", "gateway.guarddecision"),
                "active": _is_below("guarddecision/", but=("report/",)),
            },
        ],
    },
    {
        "title": "Prompts",
        "items": [
            _item("Prompts", "edit_note", "prompts.prompt"),
            _item("Versions", "history_edu", "prompts.promptversion"),
            _item("Test cases", "rule", "prompts.prompttestcase"),
        ],
    },
    {
        "title": "Usage",
        "items": [
            {
                **_item("Calls", "monitoring", "billing.usagerecord"),
                "active": _is_below("usagerecord/", but=("spend/", "finance/")),
            },
            {
                **_item("Spend", "bar_chart", "billing.usagerecord"),
                "link": reverse_lazy("admin:billing_usagerecord_spend"),
                "active": _is_below("usagerecord/spend/"),
            },
            _item("Refused calls", "block", "gateway.refusal"),
            _item("Attempts", "alt_route", "gateway.callattempt"),
            _item("Response cache", "cached", "gateway.cachepurge"),
        ],
    },
    {
        "title": "Money",
        "items": [
            _item("Invoices", "request_quote", "billing.invoice"),
            _item("Billing profiles", "contact_mail", "billing.billingprofile"),
            _item("Movements", "payments", "billing.movement"),
            _item("Transfers", "receipt_long", "billing.transfer"),
            _item("Accounts", "account_balance_wallet", "billing.account"),
            {
                **_item("Finance", "finance_mode", "billing.account"),
                "link": reverse_lazy("admin:billing_usagerecord_finance"),
                "active": _is_below("usagerecord/finance/"),
            },
            _item("Alerts", "notifications", "billing.alert"),
            _item("Reconciliations", "fact_check", "billing.reconciliationrun"),
            _item("Archives", "inventory_2", "billing.usagearchive"),
            _item("Exports", "download", "billing.exportrun"),
            _item("Export schedules", "event_repeat", "billing.exportschedule"),
        ],
    },
    {
        "title": "Operations",
        "items": [
            _item("Calls in flight", "hourglass_top", "billing.hold"),
            _item("Server processes", "memory", "gateway.worker"),
            _item("Periodic work", "update", "common.periodicjob"),
            _item("Administrators", "admin_panel_settings", "auth.user"),
            _item("Roles", "shield_person", "auth.group"),
            _item("Audit trail", "history", "keys.auditevent"),
        ],
    },
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Tollkeeper",
    "SITE_HEADER": "Tollkeeper",
    "SITE_SUBHEADER": "LLM gateway and ledger",
    "SITE_SYMBOL": "toll",
    "SITE_URL": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("platform_site/favicon.svg")}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "platform_site.dashboard.add_dashboard",
    "STYLES": [lambda _: static("platform_site/admin.css")],
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {
            "50": "oklch(98.2% .018 155.826)",
            "100": "oklch(95.0% .051 163.051)",
            "200": "oklch(90.5% .093 164.150)",
            "300": "oklch(84.5% .143 164.978)",
            "400": "oklch(70.0% .130 163.223)",
            "500": "oklch(60.0% .118 163.225)",
            "600": "oklch(50.8% .105 165.612)",
            "700": "oklch(43.2% .095 166.913)",
            "800": "oklch(37.8% .077 168.940)",
            "900": "oklch(32.0% .065 170.0)",
            "950": "oklch(26.2% .051 172.552)",
        },
    },
    "LOGIN": {"form": "platform_site.second_factor.login_form.LoginForm"},
    "ACCOUNT": {
        "navigation": [
            {"title": "Second factor", "link": reverse_lazy("admin:second_factor")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ],
    },
    "SIDEBAR": {"show_search": False, "show_all_applications": False, "navigation": _NAVIGATION},
}

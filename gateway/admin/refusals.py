"""Why was this call refused? By request id: what was said, whose limit, and every limit as it stood."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.shortcuts import redirect
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from billing.models import UsageRecord
from common.admin_display import admin_link, admin_url, badge, code, link, short_code, utc
from common.admin_keyset import Keyset, KeysetModelAdmin
from common.admin_pages import Panel
from common.clock import from_us
from gateway.models import Refusal, RefusalCount
from gateway.refusals import KEPT_A_MINUTE, KEPT_DAYS

_MINUTE_US = 60_000_000
_REMEDIES = {
    "plan": "It comes from the plan: move the customer to a larger one, or set the customer's own limit.",
    "customer": "It is set on the customer: edit it there, or raise it for a time ('Raise a limit').",
    "key": "It is set on the key: edit it there, or raise it for a time ('Raise a limit').",
    "maker": "It is set on a key that made this one ('Related keys' on the key's page): edit or raise it there.",
}


@admin.register(Refusal)
class RefusalAdmin(KeysetModelAdmin[Refusal]):
    keyset = Keyset(moment="created_us", indexed_filters=frozenset({"customer"}))
    list_display = ("time", "short_id", "customer", "key_link", "operation", "model", "code_badge", "limit")
    list_display_links = ("short_id",)
    list_filter = (("customer", AutocompleteSelectFilter), "code")
    list_select_related = ("customer", "api_key")
    search_fields = ("request_id__exact",)
    search_help_text = "The request id of a refused call: it is in the answer's body and its x-request-id header"
    ordering = ("-created_us", "-id")
    fields = ("time", "request_id", "customer", "key_link", "operation", "model", "why", "remedy", "in_that_minute")
    change_form_outer_after_template = "keys/admin/limits_after.html"  # type: ignore[assignment]

    # ---- list

    @override
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        wanted = request.GET.get("q", "").strip()
        if wanted:
            found = Refusal.objects.filter(request_id=wanted[:32]).values_list("pk", flat=True).first()
            if found is not None:
                return redirect(admin_url("gateway.refusal", "change", found))
            self._explain_absence(request, wanted)
        return super().changelist_view(request, extra_context)

    def _explain_absence(self, request: HttpRequest, wanted: str) -> None:
        record = UsageRecord.objects.filter(request_id=wanted[:32]).values_list("pk", flat=True).first()
        if record is not None and request.user.has_perm("billing.view_usagerecord"):
            url = admin_url("billing.usagerecord", "change", record)
            messages.info(request, format_html("This call was not refused: it ran. {}", link(url, "See its usage")))
            return
        messages.warning(
            request,
            f"No refusal with the id '{wanted[:40]}' is kept. Of each key the first {KEPT_A_MINUTE} of a minute are "
            f"kept, for {KEPT_DAYS} days; calls without a valid key are not kept at all.",
        )

    @admin.display(description="Time (UTC)")
    def time(self, refusal: Refusal) -> SafeString | str:
        return utc(from_us(refusal.created_us), zone="")

    @admin.display(description="Request")
    def short_id(self, refusal: Refusal) -> SafeString:
        return short_code(refusal.request_id)

    @admin.display(description="Key")
    def key_link(self, refusal: Refusal) -> SafeString:
        return admin_link("keys.apikey", refusal.api_key_id, code(f"{refusal.api_key.prefix}…"))

    @admin.display(description="Why")
    def code_badge(self, refusal: Refusal) -> SafeString:
        return badge(f"{refusal.status} {refusal.code}", "danger" if refusal.status < 500 else "warning")

    @admin.display(description="Limit")
    def limit(self, refusal: Refusal) -> str:
        name = refusal.details.get("limit_name")
        return "-" if name is None else f"{name} of the {refusal.details.get('owner')}"

    # ---- page

    @admin.display(description="What the caller was told")
    def why(self, refusal: Refusal) -> SafeString:
        return format_html("{} {}", self.code_badge(refusal), refusal.message)

    @admin.display(description="What helps")
    def remedy(self, refusal: Refusal) -> str:
        wait = refusal.retry_after_seconds
        parts = [f"Waiting {wait} s would have helped." if wait is not None else "Waiting does not help."]
        if refusal.code == "insufficient_balance":
            parts.append("Grant the customer credit.")
        else:
            parts.append(_REMEDIES.get(str(refusal.details.get("set_by")), ""))
        return " ".join(part for part in parts if part)

    @admin.display(description="Of this key in that minute")
    def in_that_minute(self, refusal: Refusal) -> str:
        minute = refusal.created_us // _MINUTE_US
        count = RefusalCount.objects.filter(api_key_id=refusal.api_key_id, minute=minute).first()
        refused = 0 if count is None else count.refused
        left_out = max(0, refused - KEPT_A_MINUTE)
        return f"{refused:,} refused" + (f", of which {left_out:,} were counted only" if left_out else "")

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        refusal = self.get_object(request, object_id) if object_id else None
        context = {"panels": [_checked_panel(refusal)]} if isinstance(refusal, Refusal) else {}
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})


def _checked_panel(refusal: Refusal) -> Panel:
    return Panel(
        title="Every limit as it stood",
        headers=("Limit", "Counts for", "Set by", "Allowed", "At once", "Left", "Full again after"),
        rows=[
            (
                _name(refusal, reading),
                reading["owner"],
                reading["set_by"],
                reading["limit"],
                reading["at_once"],
                reading["remaining"],
                "-" if reading["resets_in_seconds"] is None else f"{reading['resets_in_seconds']} s",
            )
            for reading in refusal.checked
        ],
        note="Before the call: it was refused, so it took nothing. Budgets are in USD.",
        empty=(
            "No limit was looked at: the call was refused before, by its own content or rights, or nothing limits it."
        ),
    )


def _name(refusal: Refusal, reading: dict[str, Any]) -> SafeString | str:
    details = refusal.details
    if reading["limit_name"] == details.get("limit_name") and reading["owner"] == details.get("owner"):
        return format_html_join(" ", "{}", [(reading["limit_name"],), (badge("refused", "danger"),)])
    return str(reading["limit_name"])

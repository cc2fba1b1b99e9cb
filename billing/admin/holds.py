"""Calls in flight: what each one reserves, and until when."""

import json

from django.contrib import admin
from django.utils.safestring import SafeString

from billing.models import Hold
from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import admin_link, code, number, short_code, usd_column, utc
from common.clock import from_us


@admin.register(Hold)
class HoldAdmin(ReadOnlyModelAdmin[Hold]):
    list_display = ("call", "customer", "model_name", "amount", "started", "expires", "worker")
    list_select_related = ("account__customer",)
    search_fields = ("request_id__exact",)
    search_help_text = "Request id"
    ordering = ("-created_us", "request_id")
    fields = (
        "call",
        "customer",
        "model_name",
        "amount",
        "pending_transfer",
        "started",
        "expires",
        "relayed",
        "reserved_tokens",
        "worker",
    )

    amount = usd_column("amount_nanousd", "Held (USD)")

    @admin.display(description="Request")
    def call(self, hold: Hold) -> SafeString:
        return short_code(hold.request_id)

    @admin.display(description="Customer")
    def customer(self, hold: Hold) -> SafeString | str:
        customer = hold.account.customer
        return "-" if customer is None else admin_link("keys.customer", customer.pk, customer.name)

    @admin.display(description="Model")
    def model_name(self, hold: Hold) -> SafeString:
        return code(str(json.loads(hold.draft).get("model", "-")))

    @admin.display(description="PENDING transfer")
    def pending_transfer(self, hold: Hold) -> SafeString | str:
        if hold.pending_id is None:
            return "none: the call is free"
        return admin_link("billing.transfer", hold.pending_id, hold.pending_id)

    @admin.display(description="Started")
    def started(self, hold: Hold) -> SafeString | str:
        return utc(from_us(hold.created_us))

    @admin.display(description="Expires at the latest")
    def expires(self, hold: Hold) -> SafeString | str:
        return utc(from_us(hold.expires_us))

    @admin.display(description="Output tokens so far")
    def relayed(self, hold: Hold) -> SafeString | str:
        return number(hold.progress_tokens)

    @admin.display(description="Tokens reserved in the limits")
    def reserved_tokens(self, hold: Hold) -> str:
        return f"{hold.input_tokens:,} in, {hold.output_tokens:,} out"

    @admin.display(description="Server process")
    def worker(self, hold: Hold) -> SafeString:
        return admin_link("gateway.worker", hold.worker_id, hold.worker_id)

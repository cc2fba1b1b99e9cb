"""What was tried for a call: by request id, each deployment, how it ended and what it cost the platform."""

from django.contrib import admin
from django.utils.safestring import SafeString

from common.admin_base import ReadOnlyModelAdmin
from common.admin_display import badge, code, money, number, short_code, utc
from common.clock import from_us
from gateway.attempt_rows import KEPT_DAYS
from gateway.models import CallAttempt


@admin.register(CallAttempt)
class CallAttemptAdmin(ReadOnlyModelAdmin[CallAttempt]):
    list_display = ("time", "short_id", "number", "model", "where", "ended", "tokens", "cost", "took")
    list_display_links = ("short_id",)
    list_filter = ("outcome", "upstream", "is_billed")
    search_fields = ("request_id__exact",)
    search_help_text = (
        f"The request id of a call. Kept for {KEPT_DAYS} days, of calls that failed or needed several attempts"
    )
    ordering = ("-created_us", "-id")
    fields = ("time", "request_id", "number", "customer", "model", "where", "ended", "tokens", "cost", "took")

    @admin.display(description="Time (UTC)")
    def time(self, attempt: CallAttempt) -> SafeString | str:
        return utc(from_us(attempt.created_us), zone="")

    @admin.display(description="Request")
    def short_id(self, attempt: CallAttempt) -> SafeString:
        return short_code(attempt.request_id)

    @admin.display(description="Deployment")
    def where(self, attempt: CallAttempt) -> SafeString:
        return code(f"{attempt.upstream}: {attempt.upstream_model}")

    @admin.display(description="Ended")
    def ended(self, attempt: CallAttempt) -> SafeString:
        if attempt.outcome in ("answered", "valid"):
            return badge(attempt.outcome, "success")
        return badge(attempt.outcome, "warning" if attempt.is_billed else "danger")

    @admin.display(description="Tokens in, out")
    def tokens(self, attempt: CallAttempt) -> str:
        estimated = " (estimated)" if attempt.is_estimated else ""
        return f"{attempt.input_tokens:,}, {attempt.output_tokens:,}{estimated}"

    @admin.display(description="Provider cost, USD")
    def cost(self, attempt: CallAttempt) -> SafeString:
        return money(attempt.provider_cost_nanousd)

    @admin.display(description="ms")
    def took(self, attempt: CallAttempt) -> SafeString | str:
        return number(attempt.upstream_ms)

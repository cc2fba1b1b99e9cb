"""How usage and transfers look wherever they are listed."""

from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.models import CacheState, TransferKind, UsageRecord, UsageStatus
from common.admin_display import Tone, admin_link, badge, code, money, utc

_STATUS_TONES: dict[str, Tone] = {
    UsageStatus.COMPLETED: "success",
    UsageStatus.CANCELLED: "neutral",
    UsageStatus.INTERRUPTED: "warning",
    UsageStatus.FAILED: "danger",
    UsageStatus.LOST: "danger",
}
_KIND_TONES: dict[str, Tone] = {
    TransferKind.DIRECT: "info",
    TransferKind.PENDING: "warning",
    TransferKind.POST: "success",
    TransferKind.VOID: "neutral",
    TransferKind.EXPIRE: "danger",
}
_CACHE_TONES: dict[str, Tone] = {
    CacheState.HIT: "success",
    CacheState.COALESCED: "success",
    CacheState.MISS: "neutral",
    CacheState.BYPASS: "warning",
}
USAGE_HEADERS = ("Time (UTC)", "Request", "Key", "Model", "Tokens in / out", "Cost (USD)", "Status")


def status_badge(record: UsageRecord) -> SafeString:
    """Return how the call ended, and below it the error code where there is one."""
    tone = _STATUS_TONES.get(record.status, "neutral")
    state = badge(record.status.capitalize(), tone, title=record.get_status_display())
    if not record.error_code:
        return state
    return format_html('{}<div class="tk-error">{}</div>', state, record.error_code)


def cache_badge(record: UsageRecord) -> SafeString | str:
    """Return what the response cache did for the call."""
    if not record.cache:
        return "-"
    return badge(record.cache.capitalize(), _CACHE_TONES[record.cache], title=CacheState(record.cache).label)


def kind_badge(kind: str) -> SafeString:
    """Return the kind of a transfer."""
    return badge(TransferKind(kind).label, _KIND_TONES[kind])


def input_tokens(record: UsageRecord) -> int:
    """Return all tokens that went in."""
    return (
        record.input_tokens
        + record.cache_read_tokens
        + record.cache_write_tokens
        + record.audio_input_tokens
        + (record.image_input_tokens)
    )


def output_tokens(record: UsageRecord) -> int:
    """Return all tokens that came out."""
    return record.output_tokens + record.reasoning_tokens + record.audio_output_tokens + record.image_output_tokens


def tokens_text(record: UsageRecord) -> SafeString:
    """Return tokens in and out."""
    text = f"{input_tokens(record):,} / {output_tokens(record):,}"
    return format_html('<span class="tk-number">{}</span>', text)


def usage_row(record: UsageRecord) -> tuple[object, ...]:
    """Return the cells of a record under USAGE_HEADERS; needs `api_key` selected with it."""
    return (
        utc(record.started_at, zone=""),
        admin_link("billing.usagerecord", record.pk, code(record.request_id)),
        code(f"{record.api_key.prefix}…"),
        code(record.model),
        tokens_text(record),
        money(record.charged_nanousd),
        status_badge(record),
    )

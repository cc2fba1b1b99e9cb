"""The state of a key, as a badge that says why."""

from django.utils.safestring import SafeString

from common.admin_display import badge
from keys.models import ApiKey


def state_badge(key: ApiKey) -> SafeString:
    """Return "Active", "Rotated", "Expired" or "Revoked"."""
    match key.state():
        case "revoked":
            return badge("Revoked", "danger", title=key.revoked_reason)
        case "expired":
            return badge("Expired", "warning", title=f"Since {key.expires_at:%Y-%m-%d %H:%M} UTC")
        case "rotated":
            return badge("Rotated", "warning", title=f"Works until {key.expires_at:%Y-%m-%d %H:%M} UTC")
        case _:
            return badge("Active", "success")

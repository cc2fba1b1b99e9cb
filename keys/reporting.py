"""Keys that nobody uses, and keys that are about to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from django.core.mail import send_mail
from django.db.models import Q, QuerySet

from keys.models import ApiKey

UNUSED_DAYS = 90
EXPIRING_DAYS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReport:
    """Live keys that deserve a look, each list by customer."""

    unused: Sequence[ApiKey]
    expiring: Sequence[ApiKey]
    unused_days: int
    expiring_days: int


def read_key_report(
    *, unused_days: int = UNUSED_DAYS, expiring_days: int = EXPIRING_DAYS, now: datetime | None = None
) -> KeyReport:
    """Return the live keys unused for so many days, and those that expire within so many."""
    keys = ApiKey.objects.select_related("customer").order_by("customer__name", "customer_id", "pk")
    return KeyReport(
        unused=list(unused_keys(keys, days=unused_days, now=now)),
        expiring=list(expiring_keys(keys, days=expiring_days, now=now)),
        unused_days=unused_days,
        expiring_days=expiring_days,
    )


def unused_keys(keys: QuerySet[ApiKey], *, days: int = UNUSED_DAYS, now: datetime | None = None) -> QuerySet[ApiKey]:
    """Return the live keys that were not used for so many days; one that never was counts from its birth."""
    moment = now or datetime.now(UTC)
    before = moment - timedelta(days=days)
    never = Q(last_used_at__isnull=True, created_at__lt=before)
    return _live(keys, moment).filter(never | Q(last_used_at__lt=before))


def expiring_keys(
    keys: QuerySet[ApiKey], *, days: int = EXPIRING_DAYS, now: datetime | None = None
) -> QuerySet[ApiKey]:
    """Return the live keys that end within so many days; one that was rotated is meant to."""
    moment = now or datetime.now(UTC)
    return _live(keys, moment).filter(expires_at__lte=moment + timedelta(days=days), deprecated_at__isnull=True)


def _live(keys: QuerySet[ApiKey], moment: datetime) -> QuerySet[ApiKey]:
    return keys.filter(revoked_at__isnull=True).filter(Q(expires_at__isnull=True) | Q(expires_at__gt=moment))


def mail_key_report(report: KeyReport, *, operators: Sequence[str]) -> int:
    """Send the whole report to operators, and to each customer with an address its own part; return how many mails."""
    sent = 0
    if operators:
        subject = "API keys that deserve a look"
        sent += _send(subject, report, report.unused, report.expiring, operators, is_for_operators=True)
    listed = sorted({*report.unused, *report.expiring}, key=lambda key: (key.customer_id, key.pk))
    for customer, keys in groupby(listed, key=lambda key: key.customer):
        own = set(keys)
        if customer.email:
            unused = [key for key in report.unused if key in own]
            expiring = [key for key in report.expiring if key in own]
            sent += _send(f"Your API keys ({customer.name})", report, unused, expiring, [customer.email])
    return sent


def _send(
    subject: str,
    report: KeyReport,
    unused: Sequence[ApiKey],
    expiring: Sequence[ApiKey],
    recipients: Sequence[str],
    *,
    is_for_operators: bool = False,
) -> int:
    def name(key: ApiKey) -> str:
        whose = f"{key.customer.name}, " if is_for_operators else ""
        return f"  {key.prefix}…  {whose}{key.name}"

    lines = []
    if expiring:
        lines += [f"These keys end within {report.expiring_days} days. Rotate those that are still needed:", ""]
        lines += [f"{name(key)}: {key.expires_at:%Y-%m-%d %H:%M} UTC" for key in expiring] + [""]
    if unused:
        lines += [f"These keys were not used for {report.unused_days} days. Revoke those that nobody needs:", ""]
        lines += [f"{name(key)}: {_last_use(key)}" for key in unused]
    if not lines:
        lines = ["No key ends soon, and none lies idle."]
    return send_mail(subject, "\n".join(lines) + "\n", None, list(recipients))


def _last_use(key: ApiKey) -> str:
    return "never used" if key.last_used_at is None else f"last used {key.last_used_at:%Y-%m-%d}"

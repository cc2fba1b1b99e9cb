"""Sending alerts: at least once. A row is claimed for some minutes, its mail sent, and the sending noted.

A process that dies between the mail and the note leaves a claim that runs out, and the mail goes again: with the same
Message-ID, so that mailboxes can tell it for the same. A mail that cannot be delivered is tried again, later and later,
for two days; after that it would be news of yesterday.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import F

from billing.alerts.mails import write_mail
from billing.finance_models import Alert

logger = logging.getLogger(__name__)

_CLAIM = timedelta(minutes=5)
_FIRST_RETRY = timedelta(minutes=5)
_TRIED_FOR = timedelta(days=2)
_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """What became of one alert."""

    alert_id: int
    subject: str
    recipients: tuple[str, ...]
    # Empty: sent.
    problem: str = ""


def send_alerts(now: datetime) -> Iterator[SendResult]:
    """Send what is due and yield the results. Several processes may do so at once: each takes what it has claimed."""
    due = Alert.objects.filter(
        sent_at__isnull=True, is_superseded=False, next_attempt_at__lte=now, created_at__gt=now - _TRIED_FOR
    )
    for alert_id in list(due.order_by("next_attempt_at", "id").values_list("pk", flat=True)[:_AT_ONCE]):
        claimed = Alert.objects.filter(pk=alert_id, sent_at__isnull=True, next_attempt_at__lte=now).update(
            next_attempt_at=now + _CLAIM, attempts=F("attempts") + 1
        )
        if claimed:
            yield _send(Alert.objects.select_related("customer", "api_key").get(pk=alert_id), now)


def _send(alert: Alert, now: datetime) -> SendResult:
    text = write_mail(alert)
    recipients = _recipients(alert)
    problem = "nobody to tell: the customer has no address, and FINANCE_EMAIL is empty"
    if recipients:
        problem = _deliver(alert, text.subject, text.body, recipients)
    if problem:
        delay = _FIRST_RETRY * 2 ** min(alert.attempts - 1, 6)
        Alert.objects.filter(pk=alert.pk).update(problem=problem[:300], next_attempt_at=now + delay)
    else:
        Alert.objects.filter(pk=alert.pk).update(sent_at=now, recipients=", ".join(recipients), problem="")
    return SendResult(alert_id=alert.pk, subject=text.subject, recipients=recipients, problem=problem)


def _recipients(alert: Alert) -> tuple[str, ...]:
    found = (alert.customer.email, settings.ENVIRONMENT.finance_email)
    return tuple(dict.fromkeys(address for address in found if address))


def _deliver(alert: Alert, subject: str, body: str, recipients: tuple[str, ...]) -> str:
    """Send one mail to each, so that none sees the other's address; return what failed."""
    domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip("<> ") or "localhost"
    for position, recipient in enumerate(recipients):
        message = EmailMessage(
            subject, body, to=[recipient], headers={"Message-ID": f"<alert-{alert.pk}-{position}@{domain}>"}
        )
        try:
            message.send()
        except Exception as error:  # noqa: BLE001 - a mail server may fail in any way, and none may end the others
            logger.warning("alert %s could not be sent to a recipient: %s", alert.pk, error)
            return f"{type(error).__name__}: {error}"
    return ""

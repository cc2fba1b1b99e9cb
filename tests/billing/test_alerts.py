"""Alerts: each threshold is told once a window, whatever crashes, and says what is to be done."""

import smtplib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.core.management import call_command
from django.db.models import Q

from billing.alerts import AlertPolicy, notice_alerts, send_alerts
from billing.finance_models import Alert
from billing.ledger import grant_credit
from keys.models import Customer
from tests.exporting import settle_one
from tests.factories import FundedCall, funded_call, make_raise

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
POLICY = AlertPolicy(percents=(50, 80, 100), balance_nanousd=0)


def spend(call: FundedCall, amount_nanousd: int, *, at: datetime = NOW) -> None:
    settle_one(call, at=at, cost_nanousd=amount_nanousd)


def alerts(**conditions: Any) -> list[tuple[str, str, int]]:
    rows = Alert.objects.filter(is_superseded=False, **conditions).order_by("id")
    return [(alert.owner.partition(":")[0], alert.kind, alert.percent) for alert in rows]


def test_each_threshold_is_written_once_a_window() -> None:
    call = funded_call(customer_limits={"spend_per_day_nanousd": 4_000_000})
    spend(call, 1_000_000)
    spend(call, 999_999)
    assert notice_alerts(NOW, POLICY) == 0
    spend(call, 1)
    assert notice_alerts(NOW, POLICY) == 1
    assert notice_alerts(NOW, POLICY) == 0
    spend(call, 1_000_000)
    spend(call, 200_000)
    notice_alerts(NOW, POLICY)
    assert alerts() == [("customer", "spend-day", 50), ("customer", "spend-day", 80)]
    tomorrow = NOW + timedelta(days=1)
    assert notice_alerts(tomorrow, POLICY) == 0, "a counter of yesterday is nothing of today's"
    spend(call, 1_000_000, at=tomorrow)
    spend(call, 1_000_000, at=tomorrow)
    notice_alerts(tomorrow, POLICY)
    assert alerts()[2:] == [("customer", "spend-day", 50)]


def test_of_several_thresholds_at_once_the_highest_is_told() -> None:
    call = funded_call(key_limits={"spend_total_nanousd": 1_000_000})
    spend(call, 900_000)
    assert notice_alerts(NOW, POLICY) == 2
    assert alerts() == [("key", "spend-total", 80)]


def test_budgets_of_plans_and_raises_count_as_in_admission() -> None:
    call = funded_call(
        plan_limits={"spend_per_month_nanousd": 1_000_000},
        key_limits={"spend_per_day_nanousd": 1_000_000},
        key_raise=("spend_per_day_nanousd", 10_000_000),
    )
    spend(call, 600_000)
    notice_alerts(NOW, POLICY)
    assert alerts() == [("customer", "spend-month", 50)]
    make_raise(Customer.objects.get(pk=call.customer_id), "spend_per_month_nanousd", 2_000_000, now=NOW)
    spend(call, 300_000)
    assert notice_alerts(NOW + timedelta(seconds=1), POLICY) == 0, "90 % of the plan's, 45 % of the raised one"


def test_a_low_balance_is_told_once_until_the_next_credit() -> None:
    call = funded_call(credit_nanousd=1_000_000)
    policy = AlertPolicy(percents=(), balance_nanousd=500_000)
    assert notice_alerts(NOW, policy) == 0
    spend(call, 600_000)
    assert [notice_alerts(NOW, policy), notice_alerts(NOW, policy)] == [1, 0]
    grant_credit(customer_id=call.customer_id, amount_nanousd=1_000, reason="a little", author="tests")
    assert [notice_alerts(NOW, policy), notice_alerts(NOW, policy)] == [1, 0]


def make_due_alert(settings: Any, *, email: str = "ada@example.com", finance: str = "money@example.org") -> Alert:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"finance_email": finance})
    call = funded_call(customer_limits={"spend_per_day_nanousd": 1_000_000})
    Customer.objects.filter(pk=call.customer_id).update(email=email)
    spend(call, 1_000_000)
    notice_alerts(NOW, POLICY)
    return Alert.objects.get(Q(is_superseded=False))


def test_customer_and_finance_are_told_apart_from_each_other(settings: Any) -> None:
    make_due_alert(settings)
    (result,) = send_alerts(NOW)
    assert result.problem == ""
    assert [message.to for message in mail.outbox] == [["ada@example.com"], ["money@example.org"]]
    assert "100 % of the budget of the day" in mail.outbox[0].subject
    assert "0.001 of 0.001 USD" in str(mail.outbox[0].body)
    assert list(send_alerts(NOW + timedelta(days=1))) == []
    assert len(mail.outbox) == 2


def test_a_sender_that_died_leaves_its_alert_to_the_next(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = make_due_alert(settings, finance="")

    def die(self: EmailMessage) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(EmailMessage, "send", die)
        with pytest.raises(KeyboardInterrupt):
            list(send_alerts(NOW))
    assert list(send_alerts(NOW)) == [], "somebody may still be sending it"
    (result,) = send_alerts(NOW + timedelta(minutes=6))
    assert (result.alert_id, result.problem) == (alert.pk, "")
    assert mail.outbox[0].extra_headers["Message-ID"].startswith(f"<alert-{alert.pk}-0@")


def test_a_mail_that_fails_is_tried_again_later_and_not_for_ever(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = make_due_alert(settings, finance="")

    def refuse(self: EmailMessage) -> int:
        raise smtplib.SMTPServerDisconnected("gone")

    monkeypatch.setattr(EmailMessage, "send", refuse)
    moments = [NOW + timedelta(minutes=minutes) for minutes in range(0, 3 * 24 * 60, 5)]
    tried = [moment for moment in moments if list(send_alerts(moment))]
    alert.refresh_from_db()
    assert len(tried) == alert.attempts
    assert 5 < len(tried) < 30
    assert tried[-1] < NOW + timedelta(days=2)
    assert "gone" in alert.problem
    assert alert.sent_at is None


def test_an_alert_for_nobody_says_so(settings: Any) -> None:
    make_due_alert(settings, email="", finance="")
    (result,) = send_alerts(NOW)
    assert "FINANCE_EMAIL" in result.problem


def test_the_command_notices_and_sends(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    call = funded_call(customer_limits={"spend_total_nanousd": 1_000_000})
    Customer.objects.filter(pk=call.customer_id).update(email="ada@example.com")
    spend(call, 800_000, at=datetime.now(UTC))
    call_command("alerts")
    call_command("alerts")
    assert [message.to for message in mail.outbox].count(["ada@example.com"]) == 1
    assert "sent  80 % of the budget in all is used" in capsys.readouterr().out

"""Alerts about budgets and balances: noticed from the counters, written once a window, then sent by mail."""

from billing.alerts.noticing import AlertPolicy, notice_alerts
from billing.alerts.sending import SendResult, send_alerts

__all__ = ["AlertPolicy", "SendResult", "notice_alerts", "send_alerts"]

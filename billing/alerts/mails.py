"""What alerts say. Plain text, exact amounts, and the way out."""

from dataclasses import dataclass

from billing.finance_models import Alert, AlertKind
from common.money import format_usd

_BUDGETS = {
    AlertKind.SPEND_DAY: ("budget of the day", "It begins anew at 00:00 UTC."),
    AlertKind.SPEND_MONTH: ("budget of the month", "It begins anew on the first of the month, 00:00 UTC."),
    AlertKind.SPEND_TOTAL: ("budget in all", "It does not begin anew by itself."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Subject and body."""

    subject: str
    body: str


def write_mail(alert: Alert) -> Text:
    """Return the mail of an alert whose customer and key are loaded."""
    whose = f"'{alert.customer.name}'"
    if alert.api_key is not None:
        whose = f"key {alert.api_key.prefix}… ({alert.api_key.name}) of {whose}"
    if alert.kind == AlertKind.LOW_BALANCE:
        return Text(
            subject=f"Balance of {alert.customer.name}: {format_usd(alert.amount_nanousd)} USD left",
            body=f"The balance of {whose} is {format_usd(alert.amount_nanousd)} USD, which is less than "
            f"{format_usd(alert.limit_nanousd)} USD.\n\nCalls are refused (402 insufficient_balance) once it does not "
            "cover what they could cost at most. Adding credit ends that at once; this is told again when the balance "
            f"falls after the next credit.\n{_foot(alert)}",
        )
    name, renewal = _BUDGETS[AlertKind(alert.kind)]
    consequence = (
        "Calls are refused until then, or until the budget is raised."
        if alert.percent >= 100
        else "Calls are refused once what they could cost at most does not fit into the rest."
    )
    return Text(
        subject=f"{alert.percent} % of the {name} is used: {alert.customer.name}",
        body=f"{whose[:1].upper()}{whose[1:]} has spent {format_usd(alert.amount_nanousd)} of "
        f"{format_usd(alert.limit_nanousd)} USD, {alert.percent} % or more of its {name}. {renewal}\n\n"
        f"{consequence} GET /v1/limits says what is left now.\n{_foot(alert)}",
    )


def _foot(alert: Alert) -> str:
    return f"\n-- \nAlert {alert.pk}, noticed {alert.created_at:%Y-%m-%d %H:%M} UTC. Amounts are exact, in USD.\n"

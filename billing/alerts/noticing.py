"""Which thresholds are reached: from the counters of limits and the balances, outside of the request path.

Each is a row with a unique key (whose, what, which window, how much), so whoever notices it again, after a crash or on
another machine, adds nothing. Sending is apart (`billing.alerts.sending`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max, QuerySet

from billing.finance_models import Alert, AlertKind
from billing.models import Account, AccountKind, Transfer, TransferKind
from common.clock import to_us
from common.money import parse_usd
from keys.models import ApiKey, Customer, CustomerStatus, LimitState
from keys.raising import limits_in_force
from keys.windows import day_number, month_number

_ROWS_A_READ = 1_000
_BUDGETS = {
    AlertKind.SPEND_DAY: "spend_per_day_nanousd",
    AlertKind.SPEND_MONTH: "spend_per_month_nanousd",
    AlertKind.SPEND_TOTAL: "spend_total_nanousd",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicy:
    """When somebody is told: parts of budgets in percent, and the balance below which a customer is poor (0: never)."""

    percents: Sequence[int]
    balance_nanousd: int


def read_policy() -> AlertPolicy:
    """Return the policy of the settings."""
    environment = settings.ENVIRONMENT
    percents = sorted({percent for percent in environment.alert_percents if percent})
    return AlertPolicy(percents=percents, balance_nanousd=parse_usd(environment.alert_balance_usd))


def notice_alerts(now: datetime, policy: AlertPolicy) -> int:
    """Write an alert for every threshold that has been reached and was not yet told; return how many. Safe to repeat.

    Of the thresholds of one budget that are new, the highest is sent and the others are kept as superseded.
    """
    found = [*_spent_budgets(now, policy), *_low_balances(policy)]
    return sum(_write(group, now) for group in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """The thresholds of one budget or balance that are reached."""

    kind: AlertKind
    owner: str
    customer_id: int
    api_key_id: int | None
    window: int
    percents: Sequence[int]
    limit_nanousd: int
    amount_nanousd: int


def _write(reached: _Reached, now: datetime) -> int:
    known = set(
        Alert.objects.filter(
            owner=reached.owner, kind=reached.kind, window=reached.window, percent__in=reached.percents
        ).values_list("percent", flat=True)
    )
    new = [percent for percent in reached.percents if percent not in known]
    # One that is higher has been told: a lower one that is new (its percentage was added later) says nothing more.
    is_told = any(percent > max(new, default=0) for percent in known)
    alerts = [
        Alert(
            kind=reached.kind,
            owner=reached.owner,
            customer_id=reached.customer_id,
            api_key_id=reached.api_key_id,
            window=reached.window,
            percent=percent,
            limit_nanousd=reached.limit_nanousd,
            amount_nanousd=reached.amount_nanousd,
            created_at=now,
            is_superseded=is_told or percent != max(new),
            next_attempt_at=now,
        )
        for percent in new
    ]
    if alerts:
        # Another process may have noticed the same between the two queries.
        with transaction.atomic():
            Alert.objects.bulk_create(alerts, ignore_conflicts=True)
    return len(alerts)


# ---- budgets


def _spent_budgets(now: datetime, policy: AlertPolicy) -> Iterator[_Reached]:
    if not policy.percents:
        return
    last = ""
    while states := list(LimitState.objects.filter(owner__gt=last).order_by("owner")[:_ROWS_A_READ]):
        last = states[-1].owner
        yield from _spent_budgets_of(states, now, policy)


def _spent_budgets_of(states: Sequence[LimitState], now: datetime, policy: AlertPolicy) -> Iterator[_Reached]:
    spent = {state.owner: _spent(state, now) for state in states}
    owners: dict[str, Customer | ApiKey] = {}
    models: tuple[tuple[str, Any], ...] = (("customer", Customer), ("key", ApiKey))
    for kind, model in models:
        ids = [int(name.partition(":")[2]) for name in spent if name.startswith(f"{kind}:") and name[-1].isdecimal()]
        chosen: QuerySet[Any] = model.objects.filter(pk__in=ids)
        owners |= {
            f"{kind}:{row.pk}": row for row in chosen.select_related("plan" if kind == "customer" else "customer")
        }
    for name, owner in owners.items():
        # A raise only lifts a limit: below the lowest threshold of what is set, there is nothing to ask it for.
        if not any(
            spent[name][budget] and _reached(spent[name][budget], _set_limit(owner, column), policy)
            for budget, column in _BUDGETS.items()
        ):
            continue
        limits = limits_in_force(owner, now)
        for budget, column in _BUDGETS.items():
            limit, amount = getattr(limits, column), spent[name][budget]
            percents = _reached(amount, limit, policy)
            if limit and percents:
                yield _Reached(
                    kind=budget,
                    owner=name,
                    customer_id=owner.pk if isinstance(owner, Customer) else owner.customer_id,
                    api_key_id=owner.pk if isinstance(owner, ApiKey) else None,
                    window=_window(budget, now),
                    percents=percents,
                    limit_nanousd=limit,
                    amount_nanousd=amount,
                )


def _spent(state: LimitState, now: datetime) -> dict[AlertKind, int]:
    """Return what was charged in the windows of now; a counter of another window counts as empty."""
    is_today, is_this_month = (
        state.day == _window(AlertKind.SPEND_DAY, now),
        state.month == _window(AlertKind.SPEND_MONTH, now),
    )
    return {
        AlertKind.SPEND_DAY: state.day_posted_nanousd if is_today else 0,
        AlertKind.SPEND_MONTH: state.month_posted_nanousd if is_this_month else 0,
        AlertKind.SPEND_TOTAL: state.total_posted_nanousd,
    }


def _set_limit(owner: Customer | ApiKey, column: str) -> int | None:
    own: int | None = getattr(owner, column)
    return own if own is not None or isinstance(owner, ApiKey) else getattr(owner.plan, column)


def _reached(amount: int, limit: int | None, policy: AlertPolicy) -> list[int]:
    return [percent for percent in policy.percents if limit and amount * 100 >= limit * percent]


def _window(kind: AlertKind, now: datetime) -> int:
    match kind:
        case AlertKind.SPEND_DAY:
            return day_number(to_us(now))
        case AlertKind.SPEND_MONTH:
            return month_number(to_us(now))
        case _:
            return 0


# ---- balances


def _low_balances(policy: AlertPolicy) -> Iterator[_Reached]:
    if not policy.balance_nanousd:
        return
    poor = Account.objects.filter(kind=AccountKind.CUSTOMER, customer__status=CustomerStatus.ACTIVE).filter(
        posted_nanousd__lt=policy.balance_nanousd
    )
    for account_id, customer_id, posted in poor.order_by("id").values_list("pk", "customer_id", "posted_nanousd"):
        filled = Transfer.objects.filter(credit_account_id=account_id, kind=TransferKind.DIRECT)
        last_credit = filled.aggregate(last=Max("pk"))["last"]
        if last_credit is None:
            # Never had money: a customer that is being set up.
            continue
        yield _Reached(
            kind=AlertKind.LOW_BALANCE,
            owner=f"customer:{customer_id}",
            customer_id=customer_id,
            api_key_id=None,
            window=last_credit,
            percents=(0,),
            limit_nanousd=policy.balance_nanousd,
            amount_nanousd=posted,
        )

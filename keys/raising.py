"""Raising a limit of one customer or key for a time: with an end, a reason, and an entry in the audit trail.

Nothing has to run when a raise ends: every decision asks the clock. While it runs, the higher of the raise and the
owner's own value counts, in all of admission, pages and answers.
"""

from datetime import UTC, datetime

from django.db import transaction
from django.db.models import QuerySet

from common.clock import to_us
from common.money import format_usd
from keys.audit import SYSTEM, Actor, record_event
from keys.errors import LimitRaiseEnded, LimitRaiseInvalid
from keys.limit_values import (
    LIMIT_COLUMNS,
    RAISABLE_COLUMNS,
    LimitValues,
    Raise,
    allowed_values,
    apply_raises,
    limits_from,
)
from keys.lines import line_of
from keys.models import ApiKey, Customer, LimitColumns, LimitRaise
from keys.principals import merge_customer_limits


@transaction.atomic
def raise_limit(
    *,
    owner: Customer | ApiKey,
    limit_name: str,
    value: int,
    ends_at: datetime,
    reason: str,
    actor: Actor = SYSTEM,
    now: datetime | None = None,
) -> LimitRaise:
    """Raise one limit of a customer or key from now until `ends_at`; `limit_name` is a column of `LimitColumns`.

    Raises LimitRaiseInvalid for a limit that does not exist there or is not lower, an end in the past, or no reason.
    """
    moment = now or datetime.now(UTC)
    if limit_name not in RAISABLE_COLUMNS:
        raise LimitRaiseInvalid(
            f"There is no limit '{limit_name}'. Known: {', '.join(RAISABLE_COLUMNS)}.", param="limit_name"
        )
    if not reason.strip():
        raise LimitRaiseInvalid("Say why the limit is raised: the reason stays with it.", param="reason")
    if ends_at <= moment:
        raise LimitRaiseInvalid("The end lies in the past; a raise runs from now until its end.", param="ends_at")
    allowed = allowed_values(limit_name)
    if value not in allowed:
        raise LimitRaiseInvalid(f"At most {_shown(limit_name, allowed[-1])} is possible here.", param="value")
    current = getattr(limits_in_force(owner, moment), limit_name)
    name = _name_of(owner)
    if current is None:
        raise LimitRaiseInvalid(
            f"{name} has no such limit, so there is nothing to raise. Limits of the other owner (a key's calls have to "
            "fit into the customer's limits too) are raised there.",
            param="limit_name",
        )
    if value <= current:
        raise LimitRaiseInvalid(
            f"{name} has {_shown(limit_name, current)} already; a raise has to be higher. To narrow a limit, set it on "
            "the customer or key itself.",
            param="value",
        )
    is_customer = isinstance(owner, Customer)
    raised = LimitRaise.objects.create(
        customer_id=owner.pk if is_customer else None,
        api_key_id=line_of(owner) if isinstance(owner, ApiKey) else None,
        limit_name=limit_name,
        value=value,
        starts_at=moment,
        ends_at=ends_at,
        reason=reason.strip()[:200],
        created_at=moment,
        created_by=actor.name,
    )
    record_event(
        actor=actor,
        action=f"{'customer' if is_customer else 'api_key'}.limit_raised",
        target=owner,
        before={limit_name: current},
        after={limit_name: value, "until": ends_at},
        reason=reason,
    )
    return raised


@transaction.atomic
def end_raise(*, raise_id: int, actor: Actor = SYSTEM, reason: str = "", now: datetime | None = None) -> None:
    """End a raise now: the ordinary limit counts from the next call on. Raises LimitRaiseEnded for one that is over."""
    moment = now or datetime.now(UTC)
    raised = LimitRaise.objects.select_for_update().get(pk=raise_id)
    if raised.ends_at <= moment:
        raise LimitRaiseEnded
    before = raised.ends_at
    raised.ends_at = max(moment, raised.starts_at)
    raised.save(update_fields=["ends_at"])
    owner: Customer | ApiKey | None = raised.customer or raised.api_key
    assert owner is not None
    record_event(
        actor=actor,
        action=f"{'customer' if raised.customer_id is not None else 'api_key'}.raise_ended",
        target=owner,
        before={raised.limit_name: raised.value, "until": before},
        after={"until": raised.ends_at},
        reason=reason,
    )


def limits_in_force(owner: Customer | ApiKey, moment: datetime) -> LimitValues:
    """Return what applies to a customer or a key (without its customer's limits) at that moment, raises included."""
    if isinstance(owner, Customer):
        kind, base = "customer", merge_customer_limits(_columns_of(owner), _columns_of(owner.plan))
    else:
        columns = _columns_of(owner)
        kind, base = "key", limits_from(columns, {c: "key" for c, v in columns.items() if v is not None})
    running = raises_of(owner).filter(starts_at__lte=moment, ends_at__gt=moment).order_by("id")
    raises = [Raise(kind, r.limit_name, r.value, to_us(r.starts_at), to_us(r.ends_at)) for r in running]
    return apply_raises(base, raises, to_us(moment), kind)


def raises_of(owner: Customer | ApiKey) -> QuerySet[LimitRaise]:
    """Return the raises of a customer, or of a key's line, the ended ones included."""
    if isinstance(owner, Customer):
        return LimitRaise.objects.filter(customer=owner)
    return LimitRaise.objects.filter(api_key_id=line_of(owner))


def _columns_of(row: LimitColumns) -> dict[str, int | None]:
    return {column: getattr(row, column) for column in LIMIT_COLUMNS}


def _name_of(owner: Customer | ApiKey) -> str:
    return owner.name if isinstance(owner, Customer) else f"The key '{owner.name}'"


def _shown(limit_name: str, value: int) -> str:
    return f"{format_usd(value)} USD" if limit_name.endswith("_nanousd") else f"{value:,}"

"""The limit on calls of the control plane (models, usage, balance): decided as exactly as admission decides.

Admission's clerk is not asked: these calls run in threads of their own and hold no money. What they take is one row of
counters an owner ("customer:1/control"), in a short transaction; where no owner has a limit, none at all.
"""

from dataclasses import dataclass

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from common.errors import TollkeeperError
from common.sql import Sql
from keys import limits as limit_rules
from keys.errors import refusal_error
from keys.limit_rows import lock_counters, write_counters
from keys.limit_values import EndpointClass, counter_name
from keys.limits import Demand, LimitReading, OwnerState
from keys.principals import Principal

_CLASS = EndpointClass.CONTROL
_ONE_REQUEST = Demand(input_tokens=0, output_tokens=0, amount_nanousd=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlAnswer:
    """The limits as they stand, and the error to raise where one of them refuses (then nothing was taken)."""

    limits: tuple[LimitReading, ...] = ()
    error: TollkeeperError | None = None


def take_control_request(connection: BaseDatabaseWrapper, principal: Principal, now_us: int) -> ControlAnswer:
    """Take one request of customer, key and its makers, all or nothing.

    Locks the rows of their counters, in order of names.
    """
    limits_of_owners = principal.limits_at(now_us)
    if not any(limits.rates[_CLASS] for limits in limits_of_owners):
        return ControlAnswer()
    names = tuple(counter_name(owner.name, _CLASS) for owner in principal.owners)
    with connection.wrap_database_errors, transaction.atomic(using=connection.alias):
        sql = Sql(connection)
        counters = lock_counters(sql, names, now_us)
        moment_us = max(now_us, *(row.updated_us for row in counters.values()))
        owners = [
            OwnerState(counters[name], counters[name], limits, owner.kind)
            for name, limits, owner in zip(names, limits_of_owners, principal.owners, strict=True)
        ]
        for owner in owners:
            limit_rules.roll_forward(owner.rated, owner.limits, moment_us, _CLASS)
        refusals = (limit_rules.find_rate_refusal(owner, _ONE_REQUEST, _CLASS) for owner in owners)
        refusal = next((found for found in refusals if found is not None), None)
        if refusal is None:
            for owner in owners:
                limit_rules.take_rates(owner, _ONE_REQUEST, _CLASS)
            write_counters(sql, counters.values())
    readings = limit_rules.tightest(r for owner in owners for r in limit_rules.rate_readings(owner, _CLASS))
    return ControlAnswer(limits=readings, error=None if refusal is None else refusal_error(refusal))

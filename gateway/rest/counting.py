"""Counting the calls of the control plane against the limits of customer and key."""

from django.db import connection, transaction

from common.clock import SYSTEM_CLOCK
from common.sql import Sql
from gateway.refusals import NewRefusal, write_refusals
from keys.control_limits import ControlAnswer, take_control_request
from keys.principals import Principal


def take_request(principal: Principal, *, request_id: str, operation: str) -> ControlAnswer:
    """Count one call of the control plane; a refusal is recorded before it is returned."""
    now_us = SYSTEM_CLOCK.now_us()
    answer = take_control_request(connection, principal, now_us)
    if answer.error is not None:
        refusal = NewRefusal(
            request_id=request_id,
            customer_id=principal.customer_id,
            api_key_id=principal.key_id,
            operation=operation,
            model="",
            error=answer.error,
            checked=answer.limits,
        )
        with connection.wrap_database_errors, transaction.atomic():
            write_refusals(Sql(connection), [refusal], now_us=now_us)
    return answer

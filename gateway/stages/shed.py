"""Is there room for a call of this priority? Under load the lower classes wait outside, before admission costs them."""

from gateway.calls import Exchange
from gateway.errors import LoadShed
from gateway.load import find_shed, priority_of
from gateway.runtime import Runtime


def shed(runtime: Runtime, exchange: Exchange) -> None:
    """Return when the call may go on. Raises LoadShed, with the time after which it is worth trying again.

    A call whose answer is known puts no load on an upstream, and next to none on us. A check belongs to a call that was
    let in.
    """
    if exchange.cached is not None or exchange.operation.is_check:
        return
    assert exchange.call is not None
    assert exchange.plan is not None
    assert exchange.principal is not None
    pressure = runtime.read_pressure(d.upstream.name for d in exchange.plan.deployments)
    found = find_shed(priority_of(is_paid=exchange.principal.plan_is_paid, is_batch=exchange.call.is_batch), pressure)
    if found is not None:
        raise LoadShed(
            priority=found.priority.name.lower(),
            cause=pressure.cause,
            pressure=pressure.value,
            retry_after_seconds=found.retry_after_seconds,
        )

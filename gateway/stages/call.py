"""Attempts in order: the first deployment that answers is relayed; until its first byte, the next one may be tried."""

import logging
from time import perf_counter

from gateway.catalogue import DeploymentEntry
from gateway.control import CallStopped, DeadlinePassed, StopReason
from gateway.errors import UpstreamError
from gateway.flight import Flight
from gateway.models import OnDisconnect
from gateway.stages.relay import CLIENT_PHASE, relay_completion, relay_stream
from gateway.upstreams.openai_dialect import open_answer, timeout_error

logger = logging.getLogger(__name__)


async def call_upstream(flight: Flight) -> bytes | None:
    """Carry the call out; return the body of a whole completion, or None when it was streamed.

    Raises the UpstreamError of the last attempt, or CallStopped.
    """
    assert flight.exchange.plan is not None
    *earlier, last = flight.exchange.plan.deployments
    for deployment in earlier:
        try:
            return await _attempt(flight, deployment)
        except UpstreamError as error:
            if not error.is_failover or flight.sink.has_begun or flight.transcript.has_output:
                raise
            logger.warning(
                "%s: %s failed, trying the next: %s",
                flight.exchange.request_id,
                deployment.upstream.name,
                error.internal_detail,
            )
    return await _attempt(flight, last)


async def _attempt(flight: Flight, deployment: DeploymentEntry) -> bytes | None:
    exchange, control, upstream = flight.exchange, flight.control, deployment.upstream
    assert exchange.call is not None
    assert exchange.plan is not None
    exchange.deployment = deployment
    exchange.sent = perf_counter()
    control.stops_when_client_leaves = upstream.on_disconnect is OnDisconnect.STOP
    control.expect_end(upstream.total_timeout_seconds)
    is_stream = exchange.call.is_stream
    try:
        with control.interruptible():
            async with open_answer(
                flight.runtime.session, deployment, exchange.call, exchange.plan, control, is_stream=is_stream
            ) as answer:
                if is_stream:
                    await relay_stream(flight, answer)
                    return None
                return await relay_completion(flight, answer)
    except DeadlinePassed as passed:
        if passed.phase == CLIENT_PHASE:
            control.reason = StopReason.CLIENT_STALLED
            raise CallStopped(StopReason.CLIENT_STALLED) from passed
        raise timeout_error(passed, upstream.name) from passed
    finally:
        exchange.ended = perf_counter()

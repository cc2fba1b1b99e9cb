"""Attempts in order: the first deployment that answers is relayed; until its first byte, the next one may be tried."""

import logging
from time import perf_counter

from gateway.calls import Exchange
from gateway.catalogue import DeploymentEntry
from gateway.control import CallControl, DeadlinePassed
from gateway.errors import UpstreamError
from gateway.models import OnDisconnect
from gateway.runtime import Runtime
from gateway.stages.relay import Sink, relay_completion, relay_stream
from gateway.upstreams.openai_dialect import open_answer, timeout_error
from gateway.upstreams.transcript import Transcript

logger = logging.getLogger(__name__)


async def call_upstream(
    runtime: Runtime, exchange: Exchange, control: CallControl, transcript: Transcript, sink: Sink
) -> bytes | None:
    """Carry the call out; return the body of a whole completion, or None when it was streamed.

    Raises the UpstreamError of the last attempt, or CallStopped.
    """
    assert exchange.plan is not None
    *earlier, last = exchange.plan.deployments
    for deployment in earlier:
        try:
            return await _attempt(runtime, exchange, deployment, control, transcript, sink)
        except UpstreamError as error:
            if not error.is_failover or sink.has_begun or transcript.has_output:
                raise
            logger.warning("%s: %s failed, trying the next: %s", exchange.request_id, deployment.upstream.name, error)
    return await _attempt(runtime, exchange, last, control, transcript, sink)


async def _attempt(
    runtime: Runtime,
    exchange: Exchange,
    deployment: DeploymentEntry,
    control: CallControl,
    transcript: Transcript,
    sink: Sink,
) -> bytes | None:
    assert exchange.call is not None
    assert exchange.plan is not None
    upstream = deployment.upstream
    exchange.deployment = deployment
    exchange.sent = perf_counter()
    control.stops_when_client_leaves = upstream.on_disconnect is OnDisconnect.STOP
    control.expect_end(upstream.total_timeout_seconds)
    is_stream = exchange.call.is_stream
    try:
        with control.interruptible():
            async with open_answer(
                runtime.session, deployment, exchange.call, exchange.plan, control, is_stream=is_stream
            ) as answer:
                if is_stream:
                    await relay_stream(runtime, exchange, answer, control, transcript, sink)
                    return None
                return await relay_completion(exchange, answer, transcript)
    except DeadlinePassed as passed:
        raise timeout_error(passed, upstream.name) from passed
    finally:
        exchange.ended = perf_counter()

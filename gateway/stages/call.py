"""One attempt: the call at one deployment, from the connection to the last event, and what it tells of that one."""

import asyncio
import logging
from time import perf_counter

from common.errors import TollkeeperError
from gateway.admission.commands import NoteBreaker
from gateway.capabilities import Capability
from gateway.catalogue import DeploymentEntry
from gateway.control import CallStopped, DeadlinePassed, StopReason
from gateway.errors import (
    CallCancelled,
    ClientStalled,
    ServerDraining,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRejected,
)
from gateway.flight import Flight
from gateway.guards.errors import AnswerBlocked
from gateway.models import OnDisconnect, Routing
from gateway.stages.hedge import open_quickest
from gateway.stages.relay import CLIENT_PHASE, relay_completion, relay_stream
from gateway.stages.trial import enter, leave
from gateway.structured.asking import shape_call
from gateway.upstreams.answer import open_answer, timeout_error

logger = logging.getLogger(__name__)

# The time of a shorter answer is mostly that of its input.
_FEWEST_TOKENS = 16


async def attempt(flight: Flight, deployment: DeploymentEntry) -> bytes | None:
    """Carry the call out at one deployment; return the body of a whole completion, or None when it was streamed.

    Raises the UpstreamError of what went wrong, or CallStopped.
    """
    exchange, control, upstream = flight.exchange, flight.control, deployment.upstream
    assert exchange.call is not None
    assert exchange.plan is not None
    exchange.deployment = deployment
    await enter(flight, deployment)
    exchange.sent = perf_counter()
    # Whoever sent a key will ask again: the answer is worth having even if nobody listens now.
    control.stops_when_client_leaves = upstream.on_disconnect is OnDisconnect.STOP and exchange.claim is None
    control.expect_end(upstream.total_timeout_seconds)
    call, is_stream = exchange.call, exchange.call.is_stream
    hedge_ms = exchange.plan.model.hedge_after_ms
    if call.contract is not None:
        call = shape_call(call, call.contract, has_native_mode=Capability.JSON_SCHEMA in deployment.capabilities)
    try:
        with control.interruptible():
            if hedge_ms is None:
                client, plan = flight.runtime.upstreams, exchange.plan
                answer = await open_answer(client, deployment, call, plan, control, is_stream=is_stream)
            else:
                answer = await open_quickest(flight, deployment, call, hedge_ms / 1000)
            try:
                body = None
                if is_stream:
                    await relay_stream(flight, answer)
                else:
                    body = await relay_completion(flight, answer)
            except BaseException:
                answer.hang_up()
                raise
            answer.release()
        _note_attempt(flight, None)
    except (UpstreamError, AnswerBlocked) as error:
        # Of an answer that is blocked here, the upstream did its part.
        _note_attempt(flight, error if isinstance(error, UpstreamError) else None)
        raise
    except CallStopped:
        leave(flight, deployment.id)
        raise
    except DeadlinePassed as passed:
        if passed.phase == CLIENT_PHASE:
            control.reason = StopReason.CLIENT_STALLED
            leave(flight, deployment.id)
            raise CallStopped(StopReason.CLIENT_STALLED) from passed
        late = timeout_error(passed, upstream.name)
        _note_attempt(flight, late)
        raise late from passed
    finally:
        exchange.ended = perf_counter()
    return body


def _note_attempt(flight: Flight, error: UpstreamError | None) -> None:
    """Let load meter and breaker know how the upstream answered.

    What the customer got wrong is an answer, and what an admin did is neither: its deployment is not strained, and a
    customer who can provoke it must not keep others from it.
    """
    exchange, runtime, seconds = flight.exchange, flight.runtime, None
    deployment = exchange.deployment
    assert deployment is not None
    assert exchange.call is not None
    assert exchange.plan is not None
    if isinstance(error, UpstreamMisconfigured):
        leave(flight, deployment.id)
        return
    has_failed = error is not None and not isinstance(error, UpstreamRejected)
    flight.trial_until_us = 0
    now_us = runtime.clerk.now_us
    if error is not None and has_failed:
        state = runtime.breakers.note_failure(
            deployment.id, now_us, error_code=error.code, asked_seconds=error.asked_seconds
        )
    else:
        state = runtime.breakers.note_answer(deployment.id, now_us)
    if state is not None:
        logger.warning("%s: %s", deployment.upstream.name, "rests" if state.is_open else "answers again")
        runtime.clerk.note(NoteBreaker(state=state))
    if error is not None and not has_failed:
        return
    if exchange.first_token and error is None:
        seconds = exchange.first_token - exchange.sent
        if exchange.plan.model.routing is Routing.LATENCY:
            runtime.breakers.note_latency(deployment.id, now_us, seconds)
        if not exchange.call.is_stream:
            # A long answer is no sign of strain, a slow one is.
            usage = flight.transcript.usage
            seconds /= max(_FEWEST_TOKENS, usage.tokens.output_total if usage else 0)
    runtime.load.note_attempt(
        asyncio.get_running_loop().time(),
        upstream=deployment.upstream.name,
        is_stream=exchange.call.is_stream,
        has_failed=has_failed,
        seconds=seconds,
    )


def error_of_stop(reason: StopReason) -> TollkeeperError:
    """Return the error that a stopped call ends with."""
    match reason:
        case StopReason.SERVER_STOPPING:
            return ServerDraining()
        case StopReason.CLIENT_STALLED:
            return ClientStalled()
        case _:
            return CallCancelled()

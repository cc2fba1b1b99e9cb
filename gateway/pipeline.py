"""The way of one call, stage by stage. Reads like the list in the architecture:

authenticate, parse, screen (content rules), fill (prompts), resolve, guard, recall (an answer that is known), reuse,
shed, admit, obtain (judge, share, or fulfil: call and relay, as often as it takes), settle.
"""

import logging

from common.errors import InternalError, TollkeeperError
from gateway.abuse import count_failure
from gateway.calls import Ending, Exchange, Receipt
from gateway.control import CallControl, CallStopped, StopReason
from gateway.errors import AdmissionUnavailable, ContextLengthExceeded, ServerDraining, UpstreamError
from gateway.flight import Flight, Sink
from gateway.guards.errors import ContentBlocked, ContentUnchecked
from gateway.runtime import Runtime
from gateway.stages.admit import admit
from gateway.stages.authenticate import authenticate, refresh_snapshots
from gateway.stages.call import error_of_stop
from gateway.stages.fill import fill
from gateway.stages.guard import guard
from gateway.stages.hand_over import hand_over, hand_over_known
from gateway.stages.obtain import obtain
from gateway.stages.old_form import in_callers_form
from gateway.stages.parse import parse
from gateway.stages.recall import recall
from gateway.stages.record import record_refusal
from gateway.stages.resolve import resolve
from gateway.stages.reuse import read_claim
from gateway.stages.screen import screen
from gateway.stages.settle import settle
from gateway.stages.shed import shed
from gateway.stages.truncate import truncate
from gateway.structured.errors import OutputError

logger = logging.getLogger(__name__)

# Snapshots can only be stale again if somebody changes key or catalogue between two reads, over and over.
_MOST_PLANS = 10


async def run_call(runtime: Runtime, exchange: Exchange, control: CallControl, sink: Sink) -> None:
    """Carry one call from its token to its last byte. Never raises: whatever happens reaches the sink or the log.

    `control.begin` must have named the task that this runs in.
    """
    runtime.enter_call(control)
    try:
        await _prepare(runtime, exchange)
    except TollkeeperError as error:
        _log(exchange, error)
        record_refusal(runtime, exchange, error)
        await sink.fail(exchange, await count_failure(error, exchange.client_address), None)
    except Exception as error:
        logger.exception("%s: failed before admission", exchange.request_id)
        await sink.fail(exchange, InternalError(internal_detail=repr(error)), None)
    else:
        sink = in_callers_form(exchange, sink)
        if exchange.replayed is not None or exchange.reused is not None:
            await hand_over_known(runtime, exchange, control, sink)
        else:
            await _carry_out(runtime, exchange, control, sink)
    finally:
        if exchange.kept is not None:
            exchange.kept.end()
        runtime.leave_call(control)


async def _prepare(runtime: Runtime, exchange: Exchange) -> None:
    # The calls that are still in flight have their texts judged to the end.
    if runtime.is_draining and not exchange.operation.is_check:
        raise ServerDraining
    generation = runtime.clerk.catalogue.generation
    try:
        await _plan(runtime, exchange)
    except TollkeeperError:
        # Refused by snapshots. Where they have moved since (a key ended, a model or price came), that decides.
        if not await refresh_snapshots(runtime, exchange, generation):
            raise
        await _plan(runtime, exchange)
    read_claim(exchange)
    shed(runtime, exchange)
    for _ in range(_MOST_PLANS):
        if await admit(runtime, exchange):
            return
        await _resolve(runtime, exchange)
    raise AdmissionUnavailable(internal_detail="key or catalogue changed at every attempt")


async def _plan(runtime: Runtime, exchange: Exchange) -> None:
    await authenticate(runtime, exchange)
    await parse(runtime, exchange)
    await _resolve(runtime, exchange)


async def _resolve(runtime: Runtime, exchange: Exchange) -> None:
    if runtime.clerk.catalogue.guards is not None or exchange.screening is not None:
        await screen(runtime, exchange)
    await fill(runtime, exchange)
    now_us = runtime.clerk.now_us
    runtime.breakers.take_in(runtime.clerk.health)
    try:
        resolve(exchange, runtime.clerk.catalogue, runtime.breakers, now_us)
        guard(exchange, now_us)
    except ContextLengthExceeded:
        if not await truncate(exchange, runtime.clerk.catalogue):
            raise
        resolve(exchange, runtime.clerk.catalogue, runtime.breakers, now_us)
        guard(exchange, now_us)
    await recall(runtime, exchange)


async def _carry_out(runtime: Runtime, exchange: Exchange, control: CallControl, sink: Sink) -> None:
    recording: list[bytes] | None = None if exchange.claim is None and exchange.caching is None else []
    flight = Flight(runtime=runtime, exchange=exchange, control=control, sink=sink, recording=recording)
    body: bytes | None = None
    error: TollkeeperError | None = None
    ending = Ending.COMPLETED
    try:
        body = await obtain(flight, run_call)
    except CallStopped as stopped:
        # That this server goes away is not the client's doing: a call without output then costs nothing.
        ending = _ending_of_fault(sink) if stopped.reason is StopReason.SERVER_STOPPING else Ending.CANCELLED
        error = error_of_stop(stopped.reason)
    except (UpstreamError, OutputError, ContentBlocked, ContentUnchecked) as failure:
        ending, error = _ending_of_fault(sink), failure
    except Exception as failure:
        logger.exception("%s: failed with its upstream", exchange.request_id)
        ending, error = _ending_of_fault(sink), InternalError(internal_detail=repr(failure))
    if control.is_client_gone and ending is Ending.COMPLETED and exchange.call is not None and exchange.call.is_stream:
        # Drained to its end for the provider's figures; the customer saw a part of it.
        ending = Ending.CANCELLED

    receipt: Receipt | None = None
    try:
        receipt = await settle(flight, ending, error, body)
    except TollkeeperError as failure:
        error = error or failure
    if error is not None:
        _log(exchange, error)
    await hand_over(flight, body, receipt, error)


def _ending_of_fault(sink: Sink) -> Ending:
    return Ending.INTERRUPTED if sink.has_begun else Ending.FAILED


def _log(exchange: Exchange, error: TollkeeperError) -> None:
    level = logging.WARNING if error.status >= 500 or error.internal_detail else logging.INFO
    logger.log(level, "%s: %s %s", exchange.request_id, error.code, error.internal_detail or "")

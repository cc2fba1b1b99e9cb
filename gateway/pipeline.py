"""The way of one call, stage by stage. Reads like the list in the architecture:

authenticate, parse, resolve, guard, admit, call and relay, settle.
"""

import asyncio
import logging

from common.errors import InternalError, TollkeeperError
from gateway.calls import Ending, Exchange, Receipt
from gateway.control import CallControl, CallStopped, StopReason
from gateway.errors import AdmissionUnavailable, CallCancelled, ClientStalled, ServerDraining, UpstreamError
from gateway.flight import Flight, Sink
from gateway.runtime import Runtime
from gateway.stages.admit import admit
from gateway.stages.authenticate import authenticate, refresh_snapshots
from gateway.stages.call import call_upstream
from gateway.stages.guard import guard
from gateway.stages.parse import parse
from gateway.stages.resolve import resolve
from gateway.stages.settle import settle

logger = logging.getLogger(__name__)

# Snapshots can only be stale again if somebody changes key or catalogue between two reads, over and over.
_MOST_PLANS = 10
_LAST_WORDS_SECONDS = 2.0


async def run_call(runtime: Runtime, exchange: Exchange, control: CallControl, sink: Sink) -> None:
    """Carry one call from its token to its last byte. Never raises: whatever happens reaches the sink or the log."""
    with runtime.registered(control):
        try:
            await _prepare(runtime, exchange)
        except TollkeeperError as error:
            _log(exchange, error)
            await sink.fail(exchange, error, None)
        except Exception as error:
            logger.exception("%s: failed before admission", exchange.request_id)
            await sink.fail(exchange, InternalError(internal_detail=repr(error)), None)
        else:
            await _carry_out(runtime, exchange, control, sink)


async def _prepare(runtime: Runtime, exchange: Exchange) -> None:
    if runtime.is_draining:
        raise ServerDraining
    generation = runtime.clerk.catalogue.generation
    try:
        await _plan(runtime, exchange)
    except TollkeeperError:
        # Refused by snapshots. Where they have moved since (a key ended, a model or price came), that decides.
        if not await refresh_snapshots(runtime, exchange, generation):
            raise
        await _plan(runtime, exchange)
    for _ in range(_MOST_PLANS):
        if await admit(runtime, exchange):
            return
        _resolve(runtime, exchange)
    raise AdmissionUnavailable(internal_detail="key or catalogue changed at every attempt")


async def _plan(runtime: Runtime, exchange: Exchange) -> None:
    await authenticate(runtime, exchange)
    await parse(runtime, exchange)
    _resolve(runtime, exchange)


def _resolve(runtime: Runtime, exchange: Exchange) -> None:
    resolve(exchange, runtime.clerk.catalogue, runtime.clerk.now_us)
    guard(exchange)


async def _carry_out(runtime: Runtime, exchange: Exchange, control: CallControl, sink: Sink) -> None:
    flight = Flight(runtime=runtime, exchange=exchange, control=control, sink=sink)
    body: bytes | None = None
    error: TollkeeperError | None = None
    ending = Ending.COMPLETED
    try:
        body = await call_upstream(flight)
    except CallStopped as stopped:
        # That this server goes away is not the client's doing: a call without output then costs nothing.
        ending = _ending_of_fault(sink) if stopped.reason is StopReason.SERVER_STOPPING else Ending.CANCELLED
        error = _error_of_stop(stopped.reason)
    except UpstreamError as failure:
        ending, error = _ending_of_fault(sink), failure
    except Exception as failure:
        logger.exception("%s: failed with its upstream", exchange.request_id)
        ending, error = _ending_of_fault(sink), InternalError(internal_detail=repr(failure))
    if control.is_client_gone and ending is Ending.COMPLETED and exchange.call is not None and exchange.call.is_stream:
        # Drained to its end for the provider's figures; the customer saw a part of it.
        ending = Ending.CANCELLED

    receipt: Receipt | None = None
    try:
        receipt = await settle(flight, ending, error)
    except TollkeeperError as failure:
        error = error or failure
    if error is not None:
        _log(exchange, error)
    await _hand_over(flight, body, receipt, error)


async def _hand_over(
    flight: Flight, body: bytes | None, receipt: Receipt | None, error: TollkeeperError | None
) -> None:
    """Send what ends the call. It is settled: a client that does not take its last bytes must not keep it alive."""
    exchange, sink = flight.exchange, flight.sink
    try:
        async with asyncio.timeout(_patience(flight.runtime)):
            if error is not None:
                await sink.fail(exchange, error, receipt)
            elif receipt is not None and body is not None:
                await sink.answer(exchange, receipt, body)
            elif receipt is not None:
                await sink.finish(exchange, receipt, flight.transcript.usage_chunk)
    except TimeoutError:
        await sink.fail(exchange, ClientStalled(), receipt)


def _patience(runtime: Runtime) -> float:
    """Return how long a client may take for its last bytes: at shutdown there is little time left for it."""
    longest = runtime.client_stall_seconds
    return min(longest, _LAST_WORDS_SECONDS) if runtime.is_draining else longest


def _ending_of_fault(sink: Sink) -> Ending:
    return Ending.INTERRUPTED if sink.has_begun else Ending.FAILED


def _error_of_stop(reason: StopReason) -> TollkeeperError:
    match reason:
        case StopReason.SERVER_STOPPING:
            return ServerDraining()
        case StopReason.CLIENT_STALLED:
            return ClientStalled()
        case _:
            return CallCancelled()


def _log(exchange: Exchange, error: TollkeeperError) -> None:
    level = logging.WARNING if error.status >= 500 or error.internal_detail else logging.INFO
    logger.log(level, "%s: %s %s", exchange.request_id, error.code, error.internal_detail or "")

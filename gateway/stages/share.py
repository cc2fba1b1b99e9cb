"""One upstream call for all who ask the same at the same time, where an earlier answer would do for them as well.

Each of them has been admitted and holds its own money. The first starts the call, as a task that belongs to nobody;
all of them, it included, hand on what it brings to their own clients, each at its own pace. Whoever leaves before the
end takes nothing from the others and pays nothing, unless nobody else is there: then the upstream is ended as it wants
to be ended, and what it did is paid. At the end the first of those who are still there pays for the call, the others
for a reused answer. An error of the call is an error of all of them.
"""

import asyncio
from copy import copy
from time import perf_counter

import orjson

from billing.models import CacheState, UsageSource
from gateway.attempts import measure
from gateway.caching.entries import CachedAnswer
from gateway.caching.shared_calls import SharedCall
from gateway.calls import Caching, Exchange
from gateway.control import CallControl, CallStopped, StopReason
from gateway.flight import Chunk, Flight
from gateway.stages.fulfil import fulfil
from gateway.stages.relay import CLIENT_PHASE, stoppable
from gateway.stages.reuse import join_stream, split_stream
from gateway.stages.settle import processing_of

# Ends that another try would not have had: of any other a fresh answer may say more.
_WHOLE_ENDS = frozenset(("stop", "length", "tool_calls", "function_call"))
_FOREVER = float("inf")


async def share(flight: Flight, caching: Caching) -> bytes | None:
    """Return what `fulfil` returns, and raise what it raises; keep the answer for later calls."""
    if not caching.may_reuse:
        body = await fulfil(flight)
        _keep(flight, caching, _cached_of(flight, body))
        return body
    exchange, calls = flight.exchange, flight.runtime.shared_calls
    assert exchange.principal is not None
    place = exchange.principal.customer_id, caching.key
    shared = calls.get(place)
    if shared is not None:
        exchange.cache_state = CacheState.COALESCED.value
    else:
        # While this call was being admitted the one that it would have shared may have ended.
        now_us = flight.runtime.clerk.now_us
        cached = flight.runtime.answers.find_here(caching.key, within_seconds=caching.within_seconds, now_us=now_us)
        if cached is not None:
            return await _hand_on_known(flight, cached)
        shared = calls[place] = _start(flight, caching, place)
    shared.members.append(exchange)
    # Whoever sent a key will ask again: its answer is worth waiting for even if nobody listens now.
    flight.control.stops_when_client_leaves = exchange.claim is None
    joined = perf_counter()
    try:
        await _hand_on_all(flight, shared)
    except Exception as fault:
        # Whatever this one's client did, nobody else waits for it.
        if shared.leave(exchange):
            flight.upstream_seconds = perf_counter() - joined
            raise
        if not shared.is_done:
            # Nobody joins what is only read to its end for its bill.
            calls.pop(place, None)
            _stop(shared, fault.reason if isinstance(fault, CallStopped) else StopReason.CLIENT_CANCELLED)
            await shared.wait_until_done()
        _take_result(flight, shared, joined)
        raise
    return _take_result(flight, shared, joined)


def _start(flight: Flight, caching: Caching, place: tuple[int, bytes]) -> SharedCall:
    shared = SharedCall()
    control = CallControl()
    # A copy: the stages write into it what they find out of the call, which is its payer's in the end.
    exchange = copy(flight.exchange)
    shared.flight = Flight(runtime=flight.runtime, exchange=exchange, control=control, sink=shared, recording=[])
    shared.task = asyncio.create_task(_carry(shared, caching, place), name=f"shared {exchange.request_id}")
    control.begin(shared.task)
    return shared


async def _carry(shared: SharedCall, caching: Caching, place: tuple[int, bytes]) -> None:
    flight = shared.flight
    runtime = flight.runtime
    # For its deadlines, and to be stopped with the process.
    runtime.enter_call(flight.control)
    try:
        shared.body = await fulfil(flight)
        shared.cached = _cached_of(flight, shared.body)
        _keep(flight, caching, shared.cached)
    except Exception as error:  # noqa: BLE001 - raised again in every member
        shared.error = error
    finally:
        runtime.leave_call(flight.control)
        if runtime.shared_calls.get(place) is shared:
            del runtime.shared_calls[place]
        shared.end()


async def _hand_on_all(flight: Flight, shared: SharedCall) -> None:
    """Give the client all that the shared call brings, until that is done. Raises CallStopped."""
    control = flight.control
    position = restarts = 0
    with stoppable(control), control.interruptible():
        while True:
            if restarts != shared.restarts:
                position, restarts = 0, shared.restarts
                flight.sink.begin_again()
            chunks = shared.chunks[position:]
            if chunks and not control.is_client_gone:
                position += len(chunks)
                flight.exchange.deployment = shared.flight.exchange.deployment
                await _hand_on(flight, [(chunk, orjson.loads(chunk)) for chunk in chunks])
            elif shared.is_done:
                return
            else:
                control.expect("the shared call", _FOREVER)
                await shared.wait()


async def _hand_on_known(flight: Flight, cached: CachedAnswer) -> bytes | None:
    exchange = flight.exchange
    assert exchange.call is not None
    exchange.cache_state, exchange.output = CacheState.COALESCED.value, cached.output
    flight.reused, flight.is_known = cached, True
    if not exchange.call.is_stream:
        return cached.body
    flight.recording, flight.transcript.usage_chunk = split_stream(cached.body)
    with stoppable(flight.control), flight.control.interruptible():
        await _hand_on(flight, [(chunk, orjson.loads(chunk)) for chunk in flight.recording])
    return None


async def _hand_on(flight: Flight, chunks: list[Chunk]) -> None:
    flight.control.expect(CLIENT_PHASE, flight.runtime.client_stall_seconds)
    if not flight.sink.has_begun:
        flight.exchange.first_token = perf_counter()
        await flight.sink.begin(flight.exchange)
    await flight.sink.send_chunks(chunks)


def _stop(shared: SharedCall, reason: StopReason) -> None:
    """End a call that nobody waits for any more."""
    if reason is StopReason.CLIENT_LEFT:
        # Where the upstream bills all of it anyway it is read to its end.
        shared.flight.control.client_left()
    else:
        shared.flight.control.stop(reason)


def _take_result(flight: Flight, shared: SharedCall, joined: float) -> bytes | None:
    """Make what the call came to this member's own: the payer's as a whole, the others' as a reused answer."""
    exchange, carried = flight.exchange, shared.flight
    found = carried.exchange
    exchange.deployment = found.deployment
    if shared.is_payer(exchange):
        if exchange.cache_state == CacheState.COALESCED.value:
            # Whoever came before it has left.
            exchange.cache_state = CacheState.MISS.value
        _take_over(exchange, found)
        flight.verdict, flight.output, flight.earlier = carried.verdict, carried.output, carried.earlier
        # Of what was before it came, a member has seen and waited for nothing.
        flight.first_token = max(carried.first_token, exchange.started) if carried.first_token else 0
        waited = perf_counter() - joined - (exchange.ended - exchange.sent)
        flight.upstream_seconds = min(carried.upstream_seconds, max(0.0, waited))
        flight.added_input_tokens, flight.transcript = carried.added_input_tokens, carried.transcript
    else:
        flight.upstream_seconds = perf_counter() - joined
        if shared.cached is not None:
            # What another one of the call's models answered is priced as that one's.
            exchange.plan, exchange.output = found.plan, found.output
            flight.reused, flight.transcript = shared.cached, carried.transcript
    if shared.error is not None:
        raise shared.error
    flight.recording = carried.recording
    return shared.body


def _take_over(exchange: Exchange, found: Exchange) -> None:
    exchange.plan, exchange.output = found.plan, found.output
    exchange.sent = max(found.sent, exchange.started) if found.sent else 0
    exchange.ended = max(found.ended, exchange.sent)
    exchange.first_token = exchange.first_token or found.first_token


def _cached_of(flight: Flight, body: bytes | None) -> CachedAnswer:
    exchange, transcript, deployment = flight.exchange, flight.transcript, flight.exchange.deployment
    caching = exchange.caching
    assert caching is not None
    assert deployment is not None
    last = measure(transcript, input_tokens=flight.input_tokens, is_worked_on=True)
    tokens, source, _ = last
    now_us = flight.runtime.clerk.now_us
    return CachedAnswer(
        upstream=deployment.upstream.name,
        upstream_model=deployment.upstream_model,
        tokens=tokens,
        is_estimated=source is UsageSource.ESTIMATED,
        finish_reason=transcript.finish_reason,
        processing=processing_of(flight).value,
        stored_us=now_us,
        keep_until_us=now_us + caching.keep_seconds * 1_000_000,
        output=exchange.output,
        body=join_stream(flight.recording or (), transcript.usage_chunk) if body is None else body,
    )


def _keep(flight: Flight, caching: Caching, cached: CachedAnswer) -> None:
    """Keep an answer for later calls, unless it is not what they would get."""
    exchange = flight.exchange
    assert exchange.call is not None
    assert exchange.plan is not None
    # Another model answered because this one could not: that passes. An empty answer helps nobody a second time.
    is_own = exchange.plan.model.name == exchange.call.model
    if is_own and flight.transcript.has_output and cached.finish_reason in _WHOLE_ENDS:
        flight.runtime.answers.keep(caching.key, cached, now_us=cached.stored_us)

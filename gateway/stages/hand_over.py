"""Send what ends a call. It is booked: a client that does not take its last bytes must not keep it alive."""

from common.errors import TollkeeperError
from gateway.calls import Exchange, Receipt
from gateway.control import CallControl, DeadlinePassed
from gateway.errors import ClientStalled
from gateway.flight import Flight, Sink
from gateway.runtime import Runtime
from gateway.stages.recall import serve_cached
from gateway.stages.relay import CLIENT_PHASE
from gateway.stages.reuse import replay

_LAST_WORDS_SECONDS = 2.0


async def hand_over(flight: Flight, body: bytes | None, receipt: Receipt | None, error: TollkeeperError | None) -> None:
    """Send the error, the whole answer, or the end of the stream."""
    exchange, sink = flight.exchange, flight.sink
    try:
        with flight.control.within(CLIENT_PHASE, _patience(flight.runtime)):
            if error is not None:
                await sink.fail(exchange, error, receipt)
            elif receipt is not None and body is not None:
                await sink.answer(exchange, receipt, body)
            elif receipt is not None:
                await sink.finish(exchange, receipt, flight.transcript.usage_chunk)
    except DeadlinePassed:
        await sink.fail(exchange, ClientStalled(), receipt)


async def hand_over_known(runtime: Runtime, exchange: Exchange, control: CallControl, sink: Sink) -> None:
    """Send an answer that was known before any upstream was asked: that of a repeat, or a cached one."""
    try:
        with control.within(CLIENT_PHASE, _patience(runtime)):
            await (replay(exchange, sink) if exchange.replayed is not None else serve_cached(exchange, sink))
    except DeadlinePassed:
        await sink.fail(exchange, ClientStalled(), None)


def _patience(runtime: Runtime) -> float:
    """Return how long a client may take for its last bytes: at shutdown there is little time left for it."""
    longest = runtime.client_stall_seconds
    return min(longest, _LAST_WORDS_SECONDS) if runtime.is_draining else longest

"""upstream -> customer: events pass as they are; what must be read is read on the way."""

from time import perf_counter
from typing import Any

from gateway.admission.commands import NoteProgress
from gateway.errors import UpstreamInterrupted, UpstreamInvalidAnswer
from gateway.flight import Flight
from gateway.upstreams.openai_dialect import UpstreamAnswer
from gateway.upstreams.transcript import Transcript

# What the call waits for while it hands bytes to its client: a client that takes none is gone.
CLIENT_PHASE = "the client"
# A process that dies loses at most what a stream has relayed since its last note.
_FIRST_NOTE_SECONDS = 1.0
_NOTE_EVERY_SECONDS = 2.0


async def relay_completion(flight: Flight, answer: UpstreamAnswer) -> bytes:
    """Return the upstream's whole completion, read into the transcript."""
    raw, parsed = await answer.read_completion()
    flight.exchange.first_token = perf_counter()
    try:
        flight.transcript.read_completion(parsed)
    except (AttributeError, TypeError, KeyError) as error:
        raise UpstreamInvalidAnswer(internal_detail=f"unreadable completion: {error!r}") from error
    return raw


async def relay_stream(flight: Flight, answer: UpstreamAnswer) -> None:
    """Relay a stream to its end. The usage chunk stays in the transcript: it leaves after settlement, with the cost.

    Raises UpstreamInterrupted for a stream that ends without being whole, UpstreamInvalidAnswer for one that
    delivers far more than was asked for.
    """
    exchange, transcript = flight.exchange, flight.transcript
    next_note = perf_counter() + _FIRST_NOTE_SECONDS
    async for events in answer.read_events():
        chunks = _read(events, transcript)
        now = perf_counter()
        if chunks:
            exchange.first_token = exchange.first_token or now
            await _hand_on(flight, chunks)
        if now > next_note:
            next_note = now + _NOTE_EVERY_SECONDS
            _note_progress(flight)
    if not transcript.is_whole:
        raise UpstreamInterrupted(internal_detail="the stream ended without a finish reason")


def _read(events: list[tuple[bytes, dict[str, Any]]], transcript: Transcript) -> list[bytes]:
    """Take events in and return those that are for the customer: all but a chunk that only carries usage."""
    chunks = []
    try:
        for raw, parsed in events:
            if transcript.read_chunk(parsed):
                transcript.usage_chunk = parsed
            else:
                chunks.append(raw)
    except (AttributeError, TypeError, KeyError) as error:
        raise UpstreamInvalidAnswer(internal_detail=f"unreadable chunk: {error!r}") from error
    return chunks


async def _hand_on(flight: Flight, chunks: list[bytes]) -> None:
    control, deployment = flight.control, flight.exchange.deployment
    assert deployment is not None
    if control.is_client_gone:
        return
    control.expect(CLIENT_PHASE, flight.runtime.client_stall_seconds)
    if not flight.sink.has_begun:
        await flight.sink.begin(flight.exchange)
    await flight.sink.send_chunks(chunks)
    control.expect("the next event", deployment.upstream.idle_timeout_seconds)


def _note_progress(flight: Flight) -> None:
    plan, exchange = flight.exchange.plan, flight.exchange
    assert plan is not None
    produced = flight.transcript.count_output()
    if produced > 2 * plan.output_tokens + 1_000:
        raise UpstreamInvalidAnswer(internal_detail=f"{produced} tokens, {plan.output_tokens} were asked for")
    flight.runtime.clerk.note(NoteProgress(request_id=exchange.request_id, output_tokens=produced))

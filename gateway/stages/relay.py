"""upstream -> customer: events pass as they are; what must be read is read on the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from gateway.admission.commands import NoteProgress
from gateway.control import CallControl, CallStopped, DeadlinePassed, StopReason
from gateway.errors import UpstreamInterrupted, UpstreamInvalidAnswer
from gateway.flight import Chunk, Flight
from gateway.stages.keep import keep_stream
from gateway.stages.screen_answer import AnswerScreen, open_screen
from gateway.structured.outputs import OutputText
from gateway.upstreams.answer import UpstreamAnswer
from gateway.upstreams.dialect import Event
from gateway.upstreams.transcript import Transcript

# What the call waits for while it hands bytes to its client: a client that takes none is gone.
CLIENT_PHASE = "the client"
# A process that dies loses at most what a stream has relayed since its last note.
_FIRST_NOTE_SECONDS = 1.0
_NOTE_EVERY_SECONDS = 2.0
# No token of a known vocabulary is longer: more text than this for each token cannot be what was asked for.
_MOST_CHARACTERS_PER_TOKEN = 128


@contextmanager
def stoppable(control: CallControl) -> Iterator[None]:
    """Stop the call of a client that takes nothing, where nothing else has a deadline."""
    try:
        yield
    except DeadlinePassed as passed:
        control.reason = StopReason.CLIENT_STALLED
        raise CallStopped(StopReason.CLIENT_STALLED) from passed


async def relay_completion(flight: Flight, answer: UpstreamAnswer) -> bytes:
    """Return the upstream's whole completion, read into the transcript."""
    raw, parsed = await answer.read_completion()
    flight.exchange.first_token = perf_counter()
    screen = None if flight.exchange.screening is None else open_screen(flight)
    try:
        flight.transcript.read_completion(parsed)
        if screen is not None:
            raw, parsed = await screen.read_completion(raw, parsed)
        if flight.output is not None:
            flight.output.read_completion(parsed)
    except (AttributeError, TypeError, KeyError) as error:
        raise UpstreamInvalidAnswer(internal_detail=f"unreadable completion: {error!r}") from error
    if flight.transcript.characters > _most_characters(flight):
        raise UpstreamInvalidAnswer(internal_detail=f"{flight.transcript.characters} characters of text")
    return raw


async def relay_stream(flight: Flight, answer: UpstreamAnswer) -> None:
    """Relay a stream to its end. The usage chunk stays in the transcript: it leaves after settlement, with the cost.

    Raises UpstreamInterrupted for a stream that ends without being whole, UpstreamInvalidAnswer for one that
    delivers far more than was asked for.
    """
    exchange, transcript = flight.exchange, flight.transcript
    next_note = perf_counter() + _FIRST_NOTE_SECONDS
    most_characters = _most_characters(flight)
    screen = None if exchange.screening is None else open_screen(flight)
    async for events in answer.read_events():
        transcript.known_input = answer.known_input
        chunks = _read(events, transcript, screen, flight.output)
        if transcript.characters > most_characters:
            # Before it is counted: that would hold up the event loop.
            raise UpstreamInvalidAnswer(internal_detail=f"more than {most_characters} characters of text")
        now = perf_counter()
        if chunks:
            exchange.first_token = exchange.first_token or now
            if flight.recording is not None:
                flight.recording.extend(raw for raw, _ in chunks)
            if flight.held is not None:
                flight.held.add(chunks)
            else:
                await _hand_on(flight, chunks)
        if screen is not None and screen.error is not None:
            raise screen.error
        if now > next_note:
            next_note = now + _NOTE_EVERY_SECONDS
            _note_progress(flight)
    if not transcript.is_whole:
        raise UpstreamInterrupted(internal_detail="the stream ended without a finish reason")


def _read(
    events: list[Event], transcript: Transcript, screen: AnswerScreen | None, output: OutputText | None
) -> list[Chunk]:
    """Take events in and return those that are for the customer: all but a chunk that only carries usage.

    What content rules have not decided yet comes with a later event.
    """
    chunks = []
    try:
        for raw, parsed in events:
            if transcript.read_chunk(parsed):
                transcript.usage_chunk = parsed
            else:
                chunks.append((raw, parsed))
        if screen is not None:
            chunks = screen.read_chunks(chunks)
        if output is not None:
            for _, parsed in chunks:
                output.read_chunk(parsed)
    except (AttributeError, TypeError, KeyError) as error:
        raise UpstreamInvalidAnswer(internal_detail=f"unreadable chunk: {error!r}") from error
    return chunks


async def _hand_on(flight: Flight, chunks: list[Chunk]) -> None:
    control, deployment = flight.control, flight.exchange.deployment
    assert deployment is not None
    if control.is_client_gone:
        return
    control.expect(CLIENT_PHASE, flight.runtime.client_stall_seconds)
    if not flight.sink.has_begun:
        if flight.exchange.caching is None:
            keep_stream(flight)
        await flight.sink.begin(flight.exchange)
    await flight.sink.send_chunks(chunks)
    control.expect("the next event", deployment.upstream.idle_timeout_seconds)


def _most_tokens(flight: Flight) -> int:
    """Return how much an upstream may deliver before it counts as out of control: our count is not its own."""
    assert flight.exchange.plan is not None
    return 2 * flight.exchange.plan.output_tokens + 1_000


def _most_characters(flight: Flight) -> int:
    return _most_tokens(flight) * _MOST_CHARACTERS_PER_TOKEN


def _note_progress(flight: Flight) -> None:
    exchange = flight.exchange
    produced = flight.transcript.count_output()
    if produced > _most_tokens(flight):
        raise UpstreamInvalidAnswer(internal_detail=f"{produced} tokens, more than twice what was asked for")
    if flight.held is not None:
        # Nobody has seen any of it: where this process dies, nothing was relayed.
        return
    flight.runtime.clerk.note(NoteProgress(request_id=exchange.request_id, output_tokens=produced))

"""upstream -> customer: events pass as they are; what must be read is read on the way."""

from time import perf_counter
from typing import Any, Protocol

from common.errors import TollkeeperError
from gateway.admission.commands import NoteProgress
from gateway.calls import Exchange, Receipt
from gateway.control import CallControl
from gateway.errors import UpstreamInterrupted, UpstreamInvalidAnswer
from gateway.runtime import Runtime
from gateway.upstreams.openai_dialect import UpstreamAnswer
from gateway.upstreams.transcript import Transcript

# A process that dies loses at most what a stream has relayed since its last note.
_FIRST_NOTE_SECONDS = 1.0
_NOTE_EVERY_SECONDS = 2.0


class Sink(Protocol):
    """A transport's end of a call: where answers go. Implementations do nothing once the client is gone."""

    # Something of the answer has been handed to the client: no other status or deployment is possible any more.
    has_begun: bool

    async def begin(self, exchange: Exchange) -> None:
        """Send the head of a stream."""

    async def send_chunks(self, chunks: list[bytes]) -> None:
        """Send chunks of a stream (JSON each); returns when the client has room for more."""

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """End a stream that is whole and settled."""

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Send a whole completion that is settled."""

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Send an error: as the answer, or as the last event of a stream that has begun."""


async def relay_completion(exchange: Exchange, answer: UpstreamAnswer, transcript: Transcript) -> bytes:
    """Return the upstream's whole completion, read into `transcript`."""
    raw, parsed = await answer.read_completion()
    exchange.first_token = perf_counter()
    try:
        transcript.read_completion(parsed)
    except (AttributeError, TypeError, KeyError) as error:
        raise UpstreamInvalidAnswer(internal_detail=f"unreadable completion: {error!r}") from error
    return raw


async def relay_stream(
    runtime: Runtime,
    exchange: Exchange,
    answer: UpstreamAnswer,
    control: CallControl,
    transcript: Transcript,
    sink: Sink,
) -> None:
    """Relay a stream to its end. The usage chunk stays in `transcript`: it leaves after settlement, with the cost.

    Raises UpstreamInterrupted for a stream that ends without being whole, UpstreamInvalidAnswer for one that
    delivers far more than was asked for.
    """
    assert exchange.plan is not None
    idle_seconds = exchange.deployment.upstream.idle_timeout_seconds if exchange.deployment else 0
    next_note = perf_counter() + _FIRST_NOTE_SECONDS
    async for events in answer.read_events():
        now = perf_counter()
        chunks = []
        try:
            for raw, parsed in events:
                if transcript.read_chunk(parsed):
                    transcript.usage_chunk = parsed
                else:
                    chunks.append(raw)
        except (AttributeError, TypeError, KeyError) as error:
            raise UpstreamInvalidAnswer(internal_detail=f"unreadable chunk: {error!r}") from error
        if not exchange.first_token and chunks:
            exchange.first_token = now
        if chunks and not control.is_client_gone:
            control.expect("the client", runtime.client_stall_seconds)
            if not sink.has_begun:
                await sink.begin(exchange)
            await sink.send_chunks(chunks)
            control.expect("the next event", idle_seconds)
        if now > next_note:
            next_note = now + _NOTE_EVERY_SECONDS
            produced = transcript.count_output()
            if produced > 2 * exchange.plan.output_tokens + 1_000:
                raise UpstreamInvalidAnswer(internal_detail=f"{produced} tokens, {exchange.plan.output_tokens} asked for")
            runtime.clerk.note(NoteProgress(request_id=exchange.request_id, output_tokens=produced))
    if not transcript.is_whole:
        raise UpstreamInterrupted(internal_detail="the stream ended without a finish reason")

"""A call while it is with its upstream: everything that its stages share."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from common.errors import TollkeeperError
from gateway.caching.entries import CachedAnswer
from gateway.calls import Attempt, Exchange, Receipt
from gateway.control import CallControl
from gateway.held_streams import HeldStream
from gateway.runtime import Runtime
from gateway.structured.checking import Verdict
from gateway.structured.outputs import OutputText
from gateway.upstreams.transcript import Transcript

# A piece of a stream: JSON as it came, and parsed.
Chunk = tuple[bytes, dict[str, Any]]


class Sink(Protocol):
    """A transport's end of a call: where answers go. Implementations do nothing once the client is gone."""

    @property
    def has_begun(self) -> bool:
        """Return whether something has been handed to the client: no other status or deployment is possible then."""

    async def begin(self, exchange: Exchange) -> None:
        """Send the head of a stream."""

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Send chunks of a stream; returns when the client has room for more."""

    def begin_again(self) -> None:
        """Forget the stream so far: the model is asked once more. Only streams of our own events can."""

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """End a stream that is whole and settled."""

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Send a whole completion that is settled."""

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Send an error: as the answer, or as the last event of a stream that has begun."""


@dataclass(slots=True, kw_only=True)
class Flight:
    """An admitted call on its way.

    A call may need several attempts, because deployments fail or because an answer must have a shape: the transcript,
    and the moments on the exchange, are those of the present one.
    """

    runtime: Runtime
    exchange: Exchange
    control: CallControl
    sink: Sink
    transcript: Transcript = field(default_factory=Transcript)
    # The chunks of a stream that may be asked for again; None: nobody will.
    recording: list[bytes] | None = None
    # A stream that nothing is handed on of before it is whole and has been judged; None: it passes as it comes.
    held: HeldStream | None = None
    # The answer's text, for calls whose answer must have a shape, and what came of it once it was whole.
    output: OutputText | None = None
    verdict: Verdict | None = None
    earlier: list[Attempt] = field(default_factory=list)
    first_token: float = 0
    added_input_tokens: int = 0
    # Of the earlier attempts.
    upstream_seconds: float = 0
    # The present attempt finds out whether a deployment answers again, and may take until then (the clerk's clock).
    trial_until_us: int = 0
    # The answer that another call has fetched and this one shares.
    reused: CachedAnswer | None = None
    # It was kept before this call came to share it: nothing has been read from an upstream.
    is_known: bool = False

    @property
    def answers(self) -> list[Attempt]:
        """Return the earlier attempts that the model answered, each of which is billed."""
        return [attempt for attempt in self.earlier if attempt.is_billed]

    @property
    def may_ask_again(self) -> bool:
        """Return whether what is held covers one more attempt."""
        assert self.exchange.plan is not None
        return len(self.answers) + 1 < self.exchange.plan.attempts

    @property
    def input_tokens(self) -> int:
        """Return the upper bound of the present attempt's input."""
        assert self.exchange.plan is not None
        return self.exchange.plan.input_tokens + self.added_input_tokens

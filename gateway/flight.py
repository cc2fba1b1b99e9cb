"""A call while it is with its upstream: everything that its stages share."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from common.errors import TollkeeperError
from gateway.calls import Exchange, Receipt
from gateway.control import CallControl
from gateway.runtime import Runtime
from gateway.upstreams.transcript import Transcript


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """An admitted call on its way."""

    runtime: Runtime
    exchange: Exchange
    control: CallControl
    sink: Sink
    transcript: Transcript = field(default_factory=Transcript)

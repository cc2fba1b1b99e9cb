"""Prompt runs over HTTP: one JSON object, or an event stream of the platform's own (start, delta or partial, done)."""

from typing import Any

import orjson

from common.errors import TollkeeperError
from gateway.calls import Exchange, Receipt
from gateway.errors import ClientStalled
from gateway.flight import Chunk
from gateway.streams.composing import Composer, make_composer
from gateway.streams.gathering import Gathering
from gateway.streams.pulse import Pulse
from gateway.transports.http import JSON_LINE, HttpSink, Send
from gateway.transports.rendering import exchange_lines, receipt_lines, run_body, run_start


class RunSink(HttpSink):
    """Answers one prompt run. Every event of a stream has a name and an id; the last one is `done` or `error`."""

    def __init__(self, send: Send, pulse: Pulse, *, stall_seconds: float) -> None:
        super().__init__(send, stall_seconds=stall_seconds)
        self._gathering = Gathering(pulse, self._send_gathered)
        self._composer: Composer | None = None

    async def begin(self, exchange: Exchange) -> None:
        """Send the head, and `start`."""
        await super().begin(exchange)
        self._composer = make_composer(exchange)
        await self._put_event("start", orjson.dumps(run_start(exchange)))

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Send `delta` or `partial` for a few chunks at a time."""
        await self._gathering.add(chunks)

    def begin_again(self) -> None:
        """Begin the value anew; the next `partial` has the number of its attempt."""
        self._gathering.drop()
        if self._composer is not None:
            self._composer.begin_again()

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """Send `done` with the whole run."""
        if not self.has_begun:
            await self.begin(exchange)
        await self._gathering.flush()
        await self._put_event("done", orjson.dumps(run_body(exchange, receipt)), more=False)

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Send the run as JSON; the completion behind it stays here."""
        lines = f"{JSON_LINE}{exchange_lines(exchange)}{receipt_lines(receipt)}"
        await self._put_all(200, lines, orjson.dumps(run_body(exchange, receipt)))

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Send an error as the answer, or as the event `error`."""
        if not isinstance(error, ClientStalled):
            await self._gathering.flush()
        await super().fail(exchange, error, receipt)

    async def _send_gathered(self, chunks: list[Chunk]) -> None:
        assert self._composer is not None
        for kind, fields in self._composer.compose(chunks):
            await self._put_event(kind, b"{%b}" % fields)

    async def _put_event(self, kind: str, data: bytes, *, more: bool = True) -> None:
        frame = b"id: %d\nevent: %b\ndata: %b\n\n" % (self._sequence, kind.encode(), data)
        self._sequence += 1
        await self._put_events([frame], more=more)

    async def _put_error(self, body: dict[str, object]) -> None:
        await self._put_event("error", orjson.dumps(body), more=False)

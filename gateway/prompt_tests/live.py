"""A draft run in place: the editor's own call, through the pipeline, as a stream of events.

It is made by the platform's own customer like a test case (`gateway.prompt_tests.caller`): recorded as `prompts.tests`
with what it costs the platform, charged to nobody. Closing the page stops the call.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from common.errors import TollkeeperError
from common.money import format_usd
from gateway.calls import Exchange, Receipt
from gateway.control import CallControl
from gateway.flight import Chunk
from gateway.operations import PROMPT_TESTS
from gateway.pipeline import run_call
from gateway.prompt_tests.calling import cost_of_receipt
from gateway.runtime import Runtime, get_runtime
from gateway.streams.composing import Composer, TextComposer, ValueComposer
from gateway.streams.gathering import Gathering

Event = tuple[str, dict[str, Any] | bytes]


class LiveSink:
    """Puts the events of one call into a queue; the last one is `done` or `error`."""

    def __init__(self, runtime: Runtime) -> None:
        self.has_begun = False
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._gathering = Gathering(runtime.pulse, self._send_gathered)
        self._composer: Composer | None = None

    async def begin(self, exchange: Exchange) -> None:
        """Begin the stream."""
        assert exchange.call is not None
        assert exchange.plan is not None
        self.has_begun = True
        contract = exchange.call.contract
        self._composer = TextComposer() if contract is None else ValueComposer(contract.schema)
        self.events.put_nowait(("start", {"model": exchange.plan.model.name}))

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Put `delta` or `partial` for a few chunks at a time."""
        await self._gathering.add(chunks)

    def begin_again(self) -> None:
        """Begin the value of the next attempt."""
        self._gathering.drop()
        if self._composer is not None:
            self._composer.begin_again()

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """Put `done`, with the whole value where the output has a schema."""
        await self._gathering.flush()
        has_value = exchange.call is not None and exchange.call.contract is not None
        value = {"value": exchange.output} if has_value else {}
        self.events.put_nowait(("done", {**value, **_bill(exchange, receipt)}))

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Put `done` for a call that could not be streamed."""
        await self.finish(exchange, receipt, None)

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Put `error`, with what the call cost all the same."""
        await self._gathering.flush()
        bill = {} if receipt is None else _bill(exchange, receipt)
        self.events.put_nowait(("error", {"code": error.code, "message": error.message, **bill}))

    async def _send_gathered(self, chunks: list[Chunk]) -> None:
        assert self._composer is not None
        for kind, fields in self._composer.compose(chunks):
            self.events.put_nowait((kind, b"{%b}" % fields))


async def stream_run(token: str, body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Yield the events of a chat completion that `token` makes. Leaving the iterator stops the call."""
    runtime = await get_runtime()
    sink, control = LiveSink(runtime), CallControl()
    exchange = Exchange(
        operation=PROMPT_TESTS, token=token, raw_body=orjson.dumps({**body, "stream": True}), has_own_events=True
    )
    task = asyncio.create_task(run_call(runtime, exchange, control, sink), name=exchange.request_id)
    control.begin(task)
    # It settles also when nobody waits for it any more.
    runtime.keep(task)
    kind = ""
    try:
        while kind not in ("done", "error"):
            kind, fields = await sink.events.get()
            data = fields if isinstance(fields, bytes) else orjson.dumps(fields)
            yield b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
    finally:
        if not task.done():
            control.client_left()


def _bill(exchange: Exchange, receipt: Receipt) -> dict[str, Any]:
    return {
        "model": receipt.model,
        "input_tokens": receipt.tokens.input_total,
        "output_tokens": receipt.tokens.output_total,
        "cost_usd": format_usd(cost_of_receipt(exchange, receipt)),
        "ms": round(receipt.total_ms),
        "attempts": [{"outcome": attempt.outcome, "problems": list(attempt.problems)} for attempt in receipt.attempts],
    }

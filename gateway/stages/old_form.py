"""Who sent `functions` is answered with `function_call`.

The last thing before the transport: the answer that is checked, kept, shared and sent again is the canonical one, so
each of those who get it may have it in a form of its own. Calls with tools, and without, do not come through here.
"""

from typing import Any

from common.errors import TollkeeperError
from gateway.calls import Exchange, Receipt
from gateway.chat.function_answers import ChunkRewriter, rename_reason, rewrite_completion
from gateway.flight import Chunk, Sink


def in_callers_form(exchange: Exchange, sink: Sink) -> Sink:
    """Return the sink for a call that has been read: its transport's, or one before it that speaks the old form."""
    call = exchange.call
    return OldFormSink(sink) if call is not None and call.wants_function_call else sink


class OldFormSink:
    """Says tool calls as function calls on their way to another sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._rewriter = ChunkRewriter()

    @property
    def has_begun(self) -> bool:
        return self._sink.has_begun

    async def begin(self, exchange: Exchange) -> None:
        await self._sink.begin(exchange)

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        rewritten = self._rewriter.rewrite(chunks)
        if rewritten:
            await self._sink.send_chunks(rewritten)

    def begin_again(self) -> None:
        self._rewriter = ChunkRewriter()
        self._sink.begin_again()

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        await self._sink.finish(exchange, _rewrite_receipt(receipt), usage_chunk)

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        await self._sink.answer(exchange, _rewrite_receipt(receipt), rewrite_completion(body))

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        await self._sink.fail(exchange, error, None if receipt is None else _rewrite_receipt(receipt))


def _rewrite_receipt(receipt: Receipt) -> Receipt:
    """Return a receipt whose finish reasons are those of the answer."""
    reasons = tuple(rename_reason(reason) for reason in receipt.quality.finish_reasons)
    return receipt._replace(
        finish_reason=rename_reason(receipt.finish_reason),
        quality=receipt.quality._replace(finish_reasons=reasons),
        attempts=tuple(a._replace(finish_reason=rename_reason(a.finish_reason)) for a in receipt.attempts),
    )

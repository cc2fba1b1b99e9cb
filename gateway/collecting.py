"""The end of a call that the platform makes for itself: it keeps the answer."""

from typing import Any

import orjson

from common.errors import TollkeeperError
from gateway.calls import Exchange, Receipt
from gateway.flight import Chunk


class CollectingSink:
    """Keeps a whole answer, or the error in its place."""

    def __init__(self) -> None:
        self.has_begun = False
        self.body: dict[str, Any] | None = None
        self.receipt: Receipt | None = None
        self.error: TollkeeperError | None = None

    async def begin(self, exchange: Exchange) -> None:
        """Do nothing: calls of our own do not stream."""

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Do nothing: calls of our own do not stream."""

    def begin_again(self) -> None:
        """Do nothing: nothing is kept before the answer is whole."""

    async def finish(self, exchange: Exchange, receipt: Receipt, usage_chunk: dict[str, Any] | None) -> None:
        """Do nothing: calls of our own do not stream."""

    async def answer(self, exchange: Exchange, receipt: Receipt, body: bytes) -> None:
        """Keep the completion."""
        self.body, self.receipt = orjson.loads(body), receipt

    async def fail(self, exchange: Exchange, error: TollkeeperError, receipt: Receipt | None) -> None:
        """Keep the error."""
        self.error, self.receipt = error, receipt

"""A stream of which nothing may be handed on before it is whole: its events, and the texts that they come to."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import orjson

from gateway.guards.said import AnswerTexts

if TYPE_CHECKING:
    # A flight has one of these.
    from gateway.flight import Chunk

# Some 64,000 events of one token. Beyond it a stream is given up: nobody may fill the memory with what may never leave.
MOST_HELD_BYTES = 16_000_000
# Handed on at a time, so that a client that reads slowly is noticed in between.
_BATCH = 256


class HeldStream:
    """The events of one answer so far. Kept as they came: parsed they would take ten times the memory."""

    def __init__(self, refuse: Callable[[], Exception]) -> None:
        """`refuse` makes the error of a stream that is too long to be held."""
        self._refuse = refuse
        self._events: list[bytes] = []
        self._bytes = 0
        self.texts = AnswerTexts()

    def add(self, chunks: "list[Chunk]") -> None:
        """Take events in. Raises what `refuse` makes once they are more than `MOST_HELD_BYTES`."""
        for raw, parsed in chunks:
            self._events.append(raw)
            self._bytes += len(raw)
            self.texts.read_chunk(parsed)
        if self._bytes > MOST_HELD_BYTES:
            self.clear()
            raise self._refuse()

    def clear(self) -> None:
        """Forget everything: another attempt begins."""
        self._events, self._bytes, self.texts = [], 0, AnswerTexts()

    def read_batches(self) -> "Iterator[list[Chunk]]":
        """Yield the events, some at a time."""
        for start in range(0, len(self._events), _BATCH):
            yield [(raw, orjson.loads(raw)) for raw in self._events[start : start + _BATCH]]

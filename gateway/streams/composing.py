"""What the events of the platform's own streams say: chunks as they are, text, or the value as far as it has grown."""

from typing import Any, NamedTuple, Protocol

import orjson

from gateway.calls import Exchange
from gateway.flight import Chunk
from gateway.structured.checking import unwrap_beginning
from gateway.structured.growing import read_growing
from gateway.structured.schemas import OutputSchema

# A growing value is sent again as a whole: at every piece while it is small, then whenever it has grown by this part,
# so that all events together are at most so many times the whole.
_GROWTH = 32


class Event(NamedTuple):
    """One event; `fields` is the inside of a JSON object."""

    kind: str
    fields: bytes


class Composer(Protocol):
    """Turns pieces of a stream into events."""

    def compose(self, chunks: list[Chunk]) -> list[Event]:
        """Return the events of some pieces that go out together."""

    def begin_again(self) -> None:
        """Forget the answer so far: another attempt begins."""


def make_composer(exchange: Exchange) -> Composer:
    """Return what composes the stream of a call."""
    assert exchange.call is not None
    if exchange.call.contract is not None:
        return ValueComposer(exchange.call.contract.schema)
    return TextComposer() if exchange.is_run else ChunkComposer()


class ChunkComposer:
    """`delta` with chunks of a chat completion; chunks that only carry text become one."""

    def compose(self, chunks: list[Chunk]) -> list[Event]:
        """Return one `delta` for each run of text, and one for every other chunk."""
        events = []
        texts: list[Chunk] = []
        for chunk in chunks:
            if _text_of(chunk[1]) is not None:
                texts.append(chunk)
                continue
            if texts:
                events.append(_delta_of(texts))
                texts = []
            events.append(Event("delta", b'"data":' + chunk[0]))
        if texts:
            events.append(_delta_of(texts))
        return events

    def begin_again(self) -> None:
        """Do nothing: a call without a schema is asked once."""


class TextComposer:
    """`delta` with text."""

    def compose(self, chunks: list[Chunk]) -> list[Event]:
        """Return at most one event."""
        text = "".join(_content_of(parsed) for _, parsed in chunks)
        return [Event("delta", b'"text":' + orjson.dumps(text))] if text else []

    def begin_again(self) -> None:
        """Do nothing: a call without a schema is asked once."""


class ValueComposer:
    """`partial` with the value so far, as long as it can still become valid."""

    def __init__(self, schema: OutputSchema) -> None:
        self._schema = schema
        self._attempt = 1
        self._text = ""
        self._sent_characters = 0
        self._last = b""

    def compose(self, chunks: list[Chunk]) -> list[Event]:
        """Return an event where the value has grown enough and fits so far."""
        self._text += "".join(_content_of(parsed) for _, parsed in chunks)
        if len(self._text) < self._sent_characters * (1 + 1 / _GROWTH):
            return []
        text = unwrap_beginning(self._text)
        growing = read_growing(text)
        if growing is None or not self._schema.accepts_so_far(growing.settled, text.encode()):
            return []
        shown = orjson.dumps(growing.shown)
        if shown == self._last:
            return []
        self._last, self._sent_characters = shown, len(self._text)
        return [Event("partial", b'"attempt":%d,"value":%b' % (self._attempt, shown))]

    def begin_again(self) -> None:
        """Begin the value of the next attempt."""
        self._attempt += 1
        self._text, self._sent_characters, self._last = "", 0, b""


def _delta_of(texts: list[Chunk]) -> Event:
    """Return the event of chunks that only carry text: the first one, with the text of all."""
    if len(texts) == 1:
        return Event("delta", b'"data":' + texts[0][0])
    first = texts[0][1]
    choice = first["choices"][0]
    content = "".join(_text_of(parsed) or "" for _, parsed in texts)
    merged = {**first, "choices": [{**choice, "delta": {**choice["delta"], "content": content}}]}
    return Event("delta", b'"data":' + orjson.dumps(merged))


def _text_of(chunk: dict[str, Any]) -> str | None:
    """Return the text of a chunk that carries nothing else, or None."""
    choices = chunk["choices"]
    if len(choices) != 1 or chunk.get("usage"):
        return None
    choice = choices[0]
    delta = choice.get("delta") or {}
    if choice.get("index", 0) or choice.get("finish_reason") or choice.get("logprobs") or delta.keys() != {"content"}:
        return None
    content = delta["content"]
    return content if isinstance(content, str) else None


def _content_of(chunk: dict[str, Any]) -> str:
    """Return the text that a chunk adds to the first choice."""
    for choice in chunk["choices"]:
        if not choice.get("index", 0):
            content = (choice.get("delta") or {}).get("content")
            return content if isinstance(content, str) else ""
    return ""

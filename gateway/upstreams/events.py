"""Reading a server-sent event stream: bytes in, whole events out.

https://html.spec.whatwg.org/multipage/server-sent-events.html (2026-11): lines end in LF, CR or CRLF, an empty line
ends an event, lines that begin with a colon are comments. Only `data` matters in the OpenAI dialect.
"""

from gateway.errors import UpstreamInvalidAnswer

# One event may be this long: far beyond a token's chunk, far below what would hurt.
MAX_EVENT_BYTES = 4_000_000


class EventSplitter:
    """Collects bytes and hands out the data of the events that they complete."""

    def __init__(self) -> None:
        self._buffer = b""
        self._ends_in_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of each event completed by `chunk`, in order; comments are dropped.

        Raises UpstreamInvalidAnswer when an event grows past MAX_EVENT_BYTES.
        """
        if b"\r" in chunk or self._ends_in_cr:
            chunk = self._with_newlines(chunk)
        buffer = self._buffer + chunk if self._buffer else chunk
        if b"\n\n" not in chunk and b"\n\n" not in buffer[-len(chunk) - 1 :]:
            self._keep(buffer)
            return []
        *blocks, rest = buffer.split(b"\n\n")
        self._keep(rest)
        found = []
        for block in blocks:
            # The common case first: exactly one data line.
            if block.startswith(b"data: ") and b"\n" not in block:
                found.append(block[6:])
            elif (data := _data_of(block)) is not None:
                found.append(data)
        return found

    def _keep(self, rest: bytes) -> None:
        if len(rest) > MAX_EVENT_BYTES:
            raise UpstreamInvalidAnswer(internal_detail=f"an event exceeds {MAX_EVENT_BYTES} bytes")
        self._buffer = rest

    def _with_newlines(self, chunk: bytes) -> bytes:
        """Turn CRLF and CR into LF; a CR at the end waits for the LF that may follow in the next chunk."""
        if self._ends_in_cr:
            chunk = b"\r" + chunk
        self._ends_in_cr = chunk.endswith(b"\r")
        if self._ends_in_cr:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data_of(block: bytes) -> bytes | None:
    lines = [
        line[6:] if line.startswith(b"data: ") else line[5:] for line in block.split(b"\n") if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None

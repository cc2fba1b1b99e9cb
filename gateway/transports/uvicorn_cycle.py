"""What is taken from uvicorn beyond ASGI: a whole answer in one write, and cutting a connection.

uvicorn's `send` is a method of the request's cycle, which owns the transport. It checks each header with two regular
expressions and writes head and body apart: 18 headers, which are all our own, cost 13 % of a call's CPU. Under another
server (daphne's `runserver`) both functions do nothing and the ordinary messages are sent.
The attributes used are those of the pinned version; `tests/gateway/transports` compares the bytes with `send`'s own.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def write_whole_answer(send: Send, status: int, lines: str, body: bytes) -> bool:
    """Write head and body as one and end the request; return False, with nothing done, where that is not possible.

    `lines` are valid headers in lower case, each with its CRLF, and hold the content length.
    """
    cycle = getattr(send, "__self__", None)
    if (
        type(cycle) is not RequestResponseCycle
        or cycle.response_started
        or cycle.disconnected
        or cycle.flow.write_paused
        or not cycle.keep_alive
    ):
        return False
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    default_lines = b"".join([b"%b: %b\r\n" % header for header in cycle.default_headers])
    cycle.transport.write(b"%b%b%b\r\n%b" % (STATUS_LINE[status], default_lines, lines.encode(), body))
    cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()
    return True


def abort_connection(send: Send) -> None:
    """Cut a client's connection at once, with whatever is buffered for it.

    A server closes a connection once its buffer is empty, which never happens for a client that reads nothing.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()

"""Streams that break off, and asking for them again."""

import json

from tests.flows.platform import Caller, Platform, Server
from tests.flows.wire import Answer, RawCall, chat_body, open_client
from tests.upstream import Behaviour, Point
from tests.upstream.answers import WORDS

EVENTS = 6


async def start(server: Server, caller: Caller, **options: object) -> RawCall:
    """Begin a stream that may be resumed."""
    call = await RawCall.connect(server)
    body = json.dumps(chat_body(caller, stream=True, **options)).encode()
    call.writer.write(RawCall.head(caller, f"content-length: {len(body)}", "x-resumable: true") + body)
    await call.writer.drain()
    return call


def id_of(call: RawCall) -> str:
    """Return the stream's name, as the head of its answer has it."""
    return call.seen.decode().partition("\r\nx-stream-id: ")[2].partition("\r\n")[0]


async def ask_stream(
    server: Server, caller: Caller, stream_id: str, *, method: str = "GET", after: int | None = None, **headers: str
) -> Answer:
    """Ask for a stream, or for its end, and return the whole answer."""
    url = f"{server.base_url}/streams/{stream_id}"
    if after is not None:
        headers["last-event-id"] = str(after)
    async with open_client() as client, client.request(method, url, headers=caller.headers | headers) as response:
        return Answer(status=response.status, headers=response.headers, raw=await response.read())


async def go_on(server: Server, caller: Caller, stream_id: str, *, after: int | None = None) -> RawCall:
    """Ask for a stream over a plain socket."""
    call = await RawCall.connect(server)
    lines = () if after is None else (f"last-event-id: {after}",)
    head = RawCall.head(caller, *lines).replace(b"POST /v1/chat/completions", f"GET /v1/streams/{stream_id}".encode())
    call.writer.write(head)
    return call


async def break_off(platform: Platform, caller: Caller, *, read: int, hold_at: Point, **options: object) -> str:
    """Read so many events of a held stream, vanish, and return the stream's name."""
    platform.upstream.queue(Behaviour(events=EVENTS, hold_at=hold_at), target=caller.model)
    async with await start(platform.server, caller, **options) as call:
        await call.read_events(read)
        return id_of(call)


def text_from(position: int, *, to: int = EVENTS) -> str:
    """Return the text of a stream from one event up to another, to its end by default."""
    return "".join(f"{word} " for word in WORDS[position:to])

"""A client that hides nothing of what arrives: status, headers, events as they came, and how the body ended."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from tests.flows.platform import Caller, Server

TIMEOUT = aiohttp.ClientTimeout(total=60)
JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> JsonObject:
        """Return the JSON object of an answer that is no stream."""
        parsed: JsonObject = json.loads(self.raw)
        return parsed

    @property
    def error(self) -> JsonObject:
        """Return the error of an answer or, for a stream, of its last event."""
        found: JsonObject = (self.events[-1] if self.is_stream else self.body)["error"]
        return found

    @property
    def is_stream(self) -> bool:
        return self.headers["content-type"].startswith("text/event-stream")

    @property
    def data(self) -> list[str]:
        """Return the data of a stream's events, each of which the platform writes on one line."""
        return [line[6:] for line in self.raw.decode().split("\n") if line.startswith("data: ")]

    @property
    def ids(self) -> list[int]:
        """Return the ids of a stream's events."""
        return [int(line[4:]) for line in self.raw.decode().split("\n") if line.startswith("id: ")]

    @property
    def events(self) -> list[JsonObject]:
        """Return a stream's events but [DONE]."""
        return [json.loads(data) for data in self.data if data != "[DONE]"]

    @property
    def is_whole(self) -> bool:
        """Return whether a stream ended with [DONE]."""
        return self.data[-1:] == ["[DONE]"]

    @property
    def text(self) -> str:
        """Return the content of an answer or stream, of all choices."""
        if not self.is_stream:
            return "".join(choice["message"]["content"] or "" for choice in self.body["choices"])
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


def chat_body(caller: Caller, **options: Any) -> JsonObject:
    """Return a call's body; one short message unless `options` say otherwise."""
    return {"model": caller.model, "messages": [{"role": "user", "content": "three plain words"}], **options}


@asynccontextmanager
async def open_client() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client whose every request has a connection of its own."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as client:
        yield client


async def ask(server: Server, caller: Caller, **options: Any) -> Answer:
    """Make one call and return its whole answer."""
    async with open_client() as client:
        return await ask_with(client, server, caller, **options)


async def ask_with(
    client: aiohttp.ClientSession,
    server: Server,
    caller: Caller,
    *,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Answer:
    """Make one call with an open client."""
    url = f"{server.base_url}/chat/completions"
    body = chat_body(caller, **options)
    async with client.post(url, json=body, headers=caller.headers | dict(headers or {})) as response:
        return Answer(status=response.status, headers=response.headers, raw=await response.read())


async def ask_many(server: Server | list[Server], caller: Caller, *, n: int, **options: Any) -> list[Answer]:
    """Make n calls at once, over n connections, spread over the servers."""
    servers = server if isinstance(server, list) else [server]
    async with open_client() as client:
        calls = [ask_with(client, servers[i % len(servers)], caller, **options) for i in range(n)]
        return list(await asyncio.gather(*calls))


class RawCall:
    """One call over a plain socket, for clients that leave, stall, or send what no library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.port: int = writer.get_extra_info("sockname")[1]
        self.seen = b""

    @classmethod
    async def connect(cls, server: Server) -> "RawCall":
        """Connect, and send nothing yet."""
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    def stop_reading(self) -> None:
        """Take nothing more from the socket, and let it hold as little as it can."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    @classmethod
    async def start(cls, server: Server, caller: Caller, **options: Any) -> "RawCall":
        """Connect and send a whole call."""
        call = await cls.connect(server)
        body = json.dumps(chat_body(caller, **options)).encode()
        call.writer.write(cls.head(caller, f"content-length: {len(body)}") + body)
        await call.writer.drain()
        return call

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    @staticmethod
    def head(caller: Caller, *lines: str) -> bytes:
        """Return the head of a call's request with the given lines added."""
        start = ["POST /v1/chat/completions HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {caller.token}"]
        return "\r\n".join([*start, "content-type: application/json", *lines, "", ""]).encode()

    async def read_events(self, n: int) -> None:
        """Read until n events of a stream have arrived whole."""
        while self.seen.count(b"\ndata: ") < n or not self.seen.rstrip(b"\r").endswith(b"\n\n\r\n"):
            self.seen += await self._read_some()

    async def read_answer(self) -> bytes:
        """Read a chunked answer to its end, and return all that came."""
        while not self.seen.endswith(b"\r\n0\r\n\r\n"):
            self.seen += await self._read_some()
        return self.seen

    async def read_status(self) -> int:
        """Read the status line and return the status."""
        while b"\r\n" not in self.seen:
            self.seen += await self._read_some()
        return int(self.seen.split(b" ", 2)[1])

    async def read_body(self) -> bytes:
        """Read an answer with a content-length and return its body."""
        while b"\r\n\r\n" not in self.seen:
            self.seen += await self._read_some()
        head, _, body = self.seen.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        while len(body) < size:
            body += await self._read_some()
        return body

    async def _read_some(self) -> bytes:
        piece = await self.reader.read(65_536)
        assert piece, f"the connection ended after {self.seen!r}"
        return piece

    async def leave(self) -> None:
        """Close the connection, whatever is still on its way."""
        self.writer.transport.abort()
        await asyncio.sleep(0)

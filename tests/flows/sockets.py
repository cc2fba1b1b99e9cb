"""A client of the WebSocket that speaks its protocol and hides nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.flows.platform import Caller, Server
from tests.flows.wire import JsonObject, chat_body

_WAIT_SECONDS = 20


class Socket:
    """An open socket; every wait is bounded."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.port: int = connection.local_address[1]

    async def send(self, message: object) -> None:
        """Send one message: text as it is, anything else as JSON."""
        await self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def call(
        self, caller: Caller, call_id: str = "1", *, cache_control: str | None = None, **options: Any
    ) -> None:
        """Begin a call."""
        said = {} if cache_control is None else {"cache_control": cache_control}
        await self.send({"type": "call", "id": call_id, **said, "body": chat_body(caller, **options)})

    async def receive(self) -> JsonObject:
        """Return the next message."""
        async with asyncio.timeout(_WAIT_SECONDS):
            message: JsonObject = json.loads(await self.connection.recv())
        return message

    async def receive_until(self, *types: str) -> list[JsonObject]:
        """Return the messages up to and including the first of one of these types."""
        messages = [await self.receive()]
        while messages[-1]["type"] not in types:
            messages.append(await self.receive())
        return messages

    async def finish(self) -> list[JsonObject]:
        """Return all messages up to the end of one call."""
        return await self.receive_until("done", "error")

    async def wait_closed(self) -> int:
        """Read until the server has closed the socket, and return the code."""
        async with asyncio.timeout(_WAIT_SECONDS):
            while True:
                try:
                    await self.connection.recv()
                except ConnectionClosed:
                    break
        code = self.connection.close_code
        assert code is not None
        return code

    async def leave(self) -> None:
        """Vanish without a closing handshake."""
        self.connection.transport.abort()
        await self.connection.wait_closed()


@asynccontextmanager
async def open_socket(
    server: Server,
    caller: Caller | None = None,
    *,
    expect_ready: bool = True,
    extra_headers: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Socket]:
    """Open a socket; with a caller it is authenticated by header, and `ready` has been read."""
    headers = (caller.headers if caller is not None else {}) | dict(extra_headers or {})
    async with connect(server.socket_url, additional_headers=headers, proxy=None, **options) as connection:
        socket = Socket(connection)
        if caller is not None and expect_ready:
            assert await socket.receive() == {"type": "ready"}
        yield socket

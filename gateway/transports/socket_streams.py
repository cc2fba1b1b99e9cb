"""The kept streams that one WebSocket reads: those of its own calls, and those that came back to it by `resume`."""

import asyncio
from typing import Any, Protocol

import orjson

from common.errors import TollkeeperError
from gateway.errors import ClientStalled
from gateway.runtime import Runtime
from gateway.streams.buffer import Entry, EventSource, Form
from gateway.transports.following import follow, start_following
from gateway.transports.socket_messages import read_position
from keys.principals import Principal


class Socket(Protocol):
    """What is asked of the socket."""

    async def send_event(self, event: dict[str, Any]) -> None:
        """Send one message."""

    async def send_raw(self, text: str) -> None:
        """Send one message that is JSON already."""

    def give_up(self) -> None:
        """Close the socket of a client that does not read."""


class SocketStreams:
    """Belongs to one socket; `len` and `in` are about what came back by `resume`, under ids of the socket's client."""

    def __init__(self, socket: Socket, runtime: Runtime) -> None:
        self._socket = socket
        self._runtime = runtime
        self._resumed: dict[str, EventSource] = {}
        self._following: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._resumed)

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._resumed

    async def resume(self, message: dict[str, Any], call_id: str, principal: Principal) -> None:
        """Go on with the stream that a message names. Raises StreamPositionInvalid, or as `KeptStreams.find`."""
        after, stream_id = read_position(message), str(message.get("stream"))
        source = await self._runtime.streams.find(stream_id, principal, Form.MESSAGES, after=after)
        self._resumed[call_id] = source
        self.follow(source, call_id)

    async def cancel(self, call_id: str) -> None:
        """End the call of a stream that came back; what was produced is charged. Raises StreamsUnavailable."""
        if call_id in self._resumed:
            await self._resumed[call_id].cancel()

    def follow(self, source: EventSource, call_id: str) -> None:
        """Send the messages of a kept stream under an id, until its end or the socket's."""
        task = start_following(source, self._follow(source, call_id), f"stream of {call_id}")
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    def close(self) -> None:
        """Read no further: the socket is gone, and the streams wait for whoever comes back."""
        for task in tuple(self._following):
            task.cancel()

    async def _follow(self, source: EventSource, call_id: str) -> None:
        head = f'{{"id":{orjson.dumps(call_id).decode()},'

        async def write(entries: list[Entry]) -> None:
            for entry in entries:
                await self._socket.send_raw(f"{head}{entry.frame.decode()}}}")

        try:
            await follow(source, write, stall_seconds=self._runtime.client_stall_seconds)
        except ClientStalled:
            self._socket.give_up()
        except TollkeeperError as error:
            await self._socket.send_event({"type": "error", "id": call_id, **error.as_body(request_id=None)})
        finally:
            if self._resumed.get(call_id) is source:
                del self._resumed[call_id]

"""The pooled HTTP client of this process: one for all upstreams.

The number of connections is bounded by admission, not here. Proxies of the environment are not followed, redirects
neither, and there are no cookies: no call may leave a trace in another one, and the secret goes nowhere else.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import aiohappyeyeballs
from yarl import URL

from gateway.upstreams.wire.connection import Answer, Connection, Origin
from gateway.upstreams.wire.errors import ConnectFailed

# How long an idle connection is kept: most providers close theirs after 60 seconds or more.
_KEEPALIVE_SECONDS = 45
_ADDRESSES_SECONDS = 30
# RFC 8305, section 8.
_HAPPY_EYEBALLS_DELAY_SECONDS = 0.25
_FORBIDDEN = ("\r", "\n", "\0")


class _Addresses(NamedTuple):
    found: list[aiohappyeyeballs.AddrInfoType]
    valid_until: float


class WireClient:
    """Sends POST requests over pooled connections; belongs to the running event loop."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls = tls or ssl.create_default_context()
        # The one most recently used stands at the right and is taken first: the others age, and go.
        self._idle: dict[Origin, deque[Connection]] = {}
        self._addresses: dict[Origin, _Addresses] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, *, connect_seconds: float) -> Answer:
        """Send a request and return its answer once the head has come; its reader ends with `release` or `hang_up`.

        Raises ConnectFailed, ClosedEarly, Cut or Malformed, and ValueError for a header that would not stay one line.
        """
        origin, head = _prepare(url, tuple(headers.items()))
        connection = self._take_idle(origin) or await self._connect(origin, connect_seconds)
        answer = connection.send(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        try:
            await answer.wait()
        except BaseException:
            connection.close()
            raise
        return answer

    def close(self) -> None:
        """Hang up on all idle connections; those in use end with their calls."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _take_idle(self, origin: Origin) -> Connection | None:
        connections = self._idle.get(origin)
        while connections:
            connection = connections.pop()
            if connection.is_reusable and self._loop.time() - connection.idle_since < _KEEPALIVE_SECONDS:
                return connection
            connection.close()
        return None

    def _take_back(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        self._idle.setdefault(connection.origin, deque()).append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_KEEPALIVE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long. Runs as long as anything is idle."""
        oldest = self._loop.time() - _KEEPALIVE_SECONDS
        for origin, connections in tuple(self._idle.items()):
            while connections and (connections[0].idle_since <= oldest or not connections[0].is_reusable):
                connections.popleft().close()
            if not connections:
                del self._idle[origin]
        self._sweeper = self._loop.call_later(_KEEPALIVE_SECONDS / 3, self._sweep) if self._idle else None

    async def _connect(self, origin: Origin, within_seconds: float) -> Connection:
        try:
            async with asyncio.timeout(within_seconds):
                return await self._open(origin)
        except TimeoutError as error:
            raise ConnectFailed(f"no connection to {origin.host}:{origin.port} in {within_seconds} s") from error
        except (OSError, ssl.SSLError) as error:
            self._addresses.pop(origin, None)
            raise ConnectFailed(f"{origin.host}:{origin.port}: {error!r}") from error

    async def _open(self, origin: Origin) -> Connection:
        opened = await aiohappyeyeballs.start_connection(
            await self._resolve(origin), happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY_SECONDS, loop=self._loop
        )
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            is_secure = origin.scheme == "https"
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop, origin, self._take_back),
                sock=opened,
                ssl=self._tls if is_secure else None,
                server_hostname=origin.host if is_secure else None,
            )
        except BaseException:
            opened.close()
            raise
        return connection

    async def _resolve(self, origin: Origin) -> list[aiohappyeyeballs.AddrInfoType]:
        known = self._addresses.get(origin)
        if known is None or self._loop.time() >= known.valid_until:
            found = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            known = self._addresses[origin] = _Addresses(list(found), self._loop.time() + _ADDRESSES_SECONDS)
        return known.found


@lru_cache(maxsize=1_024)
def _prepare(url: URL, headers: tuple[tuple[str, str], ...]) -> tuple[Origin, bytes]:
    """Return where a request goes and its head, up to the value of Content-Length."""
    if url.scheme not in ("http", "https") or not url.host or url.port is None:
        raise ValueError(f"not the address of an HTTP server: {url.scheme}://{url.host}")
    lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"host: {url.host_port_subcomponent}"]
    # An answer is passed through as it is; a compressed one would have to be inflated to be read.
    lines += ["accept-encoding: identity", "user-agent: tollkeeper"]
    for name, value in headers:
        if any(character in name or character in value for character in _FORBIDDEN):
            raise ValueError(f"the header '{name[:40]}' holds a line break or a null")
        lines.append(f"{name.lower()}: {value}")
    lines.append("content-length: ")
    return Origin(url.scheme, url.raw_host or url.host, url.port), "\r\n".join(lines).encode("latin-1")

"""The bare pass-through: ASGI in, aiohttp out, and nothing between. The floor for a gateway in Python.

It has no key, count, check or error handling, on purpose: whatever the product adds is what it costs.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvicorn
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from bench.processes import Server, find_free_port, run_server

REQUEST_HEADERS = {"content-type": "application/json", "authorization": "Bearer bench"}


@contextlib.contextmanager
def run_passthrough(upstream_url: str, scratch: Path, *, name: str) -> Iterator[Server]:
    """Run a pass-through to one upstream (base URL without `/v1`) for the length of the block."""
    port = find_free_port()
    command = [sys.executable, "-m", "bench.passthrough", str(port), upstream_url]
    with run_server(name=f"passthrough-{name}", command=command, port=port, scratch=scratch) as server:
        yield server


class Passthrough:
    """An ASGI application that forwards every request to one upstream."""

    def __init__(self, upstream_url: str) -> None:
        self.upstream_url = upstream_url
        # Set when the server starts: a session belongs to the running loop.
        self.session: aiohttp.ClientSession

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._forward(scope["path"], receive, send)

    async def _live(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()
        # No pool limit: the product must not be compared with a queue for connections.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(total=None)
        self.session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.session.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _forward(self, path: str, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = await _read_body(receive)
        async with self.session.post(self.upstream_url + path, data=body, headers=REQUEST_HEADERS) as response:
            content_type = response.headers["content-type"].encode()
            headers = [(b"content-type", content_type)]
            streams = content_type.startswith(b"text/event-stream")
            answer = b"" if streams else await response.read()
            if not streams:
                headers.append((b"content-length", str(len(answer)).encode()))
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status,
                    "headers": headers,
                    "trailers": False,
                }
            )
            if streams:
                async for part in response.content.iter_any():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": answer, "more_body": False})


async def _read_body(receive: ASGIReceiveCallable) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message["body"]
        if not message["more_body"]:
            return body


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.passthrough", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("upstream_url")
    options = parser.parse_args()
    uvicorn.run(
        Passthrough(options.upstream_url),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        backlog=4096,
    )


if __name__ == "__main__":
    main()

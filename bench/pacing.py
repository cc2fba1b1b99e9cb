"""The paced upstream: streams one event every so often, as a model does.

The pace is in the path, `/pace/<milliseconds>/<events>/v1/chat/completions`, so one process serves every
measure. Headers leave at once and the first event one interval later.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import uvloop
from aiohttp import web

from bench.mock import MODELS, render_chunk, render_end
from bench.processes import Server, find_free_port, run_server

# Occurs once in every content event and nowhere else in a stream.
MARKER = b"pebble"
CHUNK = render_chunk("pebble ")


@contextlib.contextmanager
def run_pacing(scratch: Path) -> Iterator[Server]:
    """Run the paced upstream for the length of the block."""
    port = find_free_port()
    command = [sys.executable, "-m", "bench.pacing", str(port)]
    with run_server(name="pacing", command=command, port=port, scratch=scratch) as server:
        yield server


def build_pace_url(server: Server, *, interval_ms: int, events: int) -> str:
    """Return the base URL, without `/v1`, of an upstream that streams so many content events at that pace."""
    return f"{server.url}/pace/{interval_ms}/{events}"


async def answer_chat(request: web.Request) -> web.StreamResponse:
    """Stream the events that the path asks for."""
    interval_seconds = int(request.match_info["interval"]) / 1_000
    events = int(request.match_info["events"])
    await request.read()
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
    await response.prepare(request)
    for _ in range(events):
        await asyncio.sleep(interval_seconds)
        await response.write(CHUNK)
    await response.write(render_end(completion_tokens=events))
    await response.write_eof()
    return response


async def answer_models(_request: web.Request) -> web.Response:
    """Answer the list of models."""
    return web.json_response(MODELS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pacing", description=__doc__)
    parser.add_argument("port", type=int)
    port = parser.parse_args().port
    app = web.Application()
    app.router.add_post("/pace/{interval}/{events}/v1/chat/completions", answer_chat)
    app.router.add_get("/pace/{interval}/{events}/v1/models", answer_models)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, backlog=4096, print=None)


if __name__ == "__main__":
    main()

"""Asyncio clients for what wrk cannot measure: time to the first token, memory under many open streams."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from bench.load import Target, build_body
from bench.pacing import MARKER
from bench.processes import BenchError, Server, read_use

END_MARKER = b"data: [DONE]"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRead:
    """One stream, read to its end."""

    # From the request to the first bytes that hold a token; None when none came.
    first_token_seconds: float | None
    # Empty for a whole stream.
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokens:
    p50_ms: float
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStreams:
    # Resident memory of the server before the streams, and the most seen while they were open.
    idle_bytes: int
    peak_bytes: int
    problems: tuple[str, ...]


async def measure_first_tokens(
    targets: Mapping[str, Target], *, streams: int, events: int, warm_streams: int = 20
) -> dict[str, FirstTokens]:
    """Read `streams` streams from each target and return the median time to the first token, by target name.

    The targets take turns stream by stream, so a slow moment of the machine falls on all of them alike.
    """
    reads: dict[str, list[StreamRead]] = {name: [] for name in targets}
    async with _open_session() as session:
        for turn in range(warm_streams + streams):
            for name, target in targets.items():
                read = await read_stream(session, target, number=turn, events=events)
                if turn >= warm_streams:
                    reads[name].append(read)
    return {name: _sum_up(found) for name, found in reads.items()}


async def hold_streams(target: Target, *, streams: int, events: int) -> HeldStreams:
    """Open so many streams at once, read them all to the end, and watch the memory of the target's server."""
    if target.server is None:
        raise BenchError("memory is measured of a server; the target names none")
    idle_bytes = read_use(target.server).resident_bytes
    watch = asyncio.create_task(_watch_memory(target.server))
    async with _open_session() as session:
        reads = await asyncio.gather(
            *(read_stream(session, target, number=number, events=events) for number in range(streams))
        )
    watch.cancel()
    peak_bytes = max(idle_bytes, *await asyncio.gather(watch))
    return HeldStreams(idle_bytes=idle_bytes, peak_bytes=peak_bytes, problems=_count_problems(reads))


async def read_stream(session: aiohttp.ClientSession, target: Target, *, number: int, events: int) -> StreamRead:
    """Send one call and read its stream; one without every token and the end is a problem, no exception."""
    body = build_body(target.model, text=f"Stream {number} of {time.time_ns()}", stream=True)
    headers = {"content-type": "application/json"} | target.headers
    first_token_seconds = None
    received = bytearray()
    start = time.perf_counter()
    try:
        async with session.post(f"{target.url}/v1/chat/completions", data=body, headers=headers) as response:
            async for part in response.content.iter_any():
                received += part
                if first_token_seconds is None and MARKER in received:
                    first_token_seconds = time.perf_counter() - start
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as error:
        return StreamRead(first_token_seconds=first_token_seconds, problem=type(error).__name__)
    if status != 200:
        problem = f"status {status}"
    elif received.count(MARKER) != events or END_MARKER not in received:
        problem = "cut stream"
    else:
        problem = ""
    return StreamRead(first_token_seconds=first_token_seconds, problem=problem)


def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=120),
        auto_decompress=False,
    )


async def _watch_memory(server: Server) -> int:
    """Return the most resident memory seen until this task is cancelled, in bytes."""
    peak = 0
    try:
        while True:
            peak = max(peak, read_use(server).resident_bytes)
            await asyncio.sleep(0.25)
    except asyncio.CancelledError:
        return peak


def _sum_up(reads: list[StreamRead]) -> FirstTokens:
    times = [read.first_token_seconds for read in reads if read.first_token_seconds is not None]
    p50_ms = statistics.median(times) * 1_000 if times else float("nan")
    return FirstTokens(p50_ms=p50_ms, problems=_count_problems(reads))


def _count_problems(reads: list[StreamRead]) -> tuple[str, ...]:
    counted = Counter(read.problem for read in reads if read.problem)
    return tuple(f"{count} streams: {problem}" for problem, count in counted.most_common())

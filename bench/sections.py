"""What is measured, one function a section: each runs product and pass-through by turns and returns rows.

Budgets are those of the project's performance page. PostgreSQL has its own, and only for CPU.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.load import LoadResult, Target, merge_results, run_load
from bench.mock import Mock, count_calls
from bench.pacing import build_pace_url
from bench.passthrough import run_passthrough
from bench.processes import Server
from bench.product import CACHED_MODEL, Product
from bench.report import Row
from bench.streams import hold_streams, measure_first_tokens

FIRST_TOKEN_EVENTS = 3
SLOW_EVENTS = 10
SLOW_STREAMS = 1_000
CACHED_BODIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every section needs."""

    product: Product
    mock: Mock
    # Base URL of each upstream, without `/v1`, by the name that the product's catalogue gives it.
    upstream_urls: dict[str, str]
    scratch: Path
    on_postgres: bool
    quick: bool

    @property
    def seconds(self) -> int:
        return 2 if self.quick else 8

    @property
    def label(self) -> str:
        return "PostgreSQL" if self.on_postgres else "SQLite"


def list_upstream_urls(mock: Mock, pacing: Server) -> dict[str, str]:
    """Return the base URL of each upstream by its name."""
    return {
        "bench-json": mock.json_url,
        CACHED_MODEL: mock.json_url,
        "bench-stream": mock.stream_url,
        "bench-first-token": build_pace_url(pacing, interval_ms=10, events=FIRST_TOKEN_EVENTS),
        "bench-slow": build_pace_url(pacing, interval_ms=1_000, events=SLOW_EVENTS),
    }


def measure_json(bench: Bench) -> list[Row]:
    """Non-streaming calls from 32 connections."""
    product, floor = _load_both(bench, "bench-json", connections=32)
    name = f"JSON, 32 connections, {bench.label}: "
    problems = product.problems + floor.problems
    ratio = product.requests_per_second / max(floor.requests_per_second, 1)
    budget, stretch = (700, 450) if bench.on_postgres else (450, 300)
    rows = [
        Row(
            measure=name + "CPU us/request",
            product=product.cpu_us_per_request,
            floor=floor.cpu_us_per_request,
            budget=budget,
            stretch=stretch,
        ),
        Row(measure=name + "requests/s", product=product.requests_per_second, floor=floor.requests_per_second),
        Row(
            measure=name + "requests/s, ratio to pass-through",
            product=ratio,
            floor=1,
            budget=_unless_postgres(bench, 0.40),
            stretch=_unless_postgres(bench, 0.60),
            higher_is_better=True,
            digits=2,
        ),
        *_list_percentiles(name, product, floor),
    ]
    return [replace(row, problems=problems) for row in rows]


def measure_cache(bench: Bench) -> list[Row]:
    """Hits of the response cache: key, limits, budgets and a usage record, and no upstream."""
    before = count_calls(bench.mock)
    target = replace(bench.product.target(CACHED_MODEL), distinct=CACHED_BODIES)
    product = merge_results([_load(bench, target, connections=32) for _ in range(2)])
    problems = product.problems
    # Each run has bodies of its own, which its warm-up asks for; to be asked how many calls there were is one of them.
    calls = count_calls(bench.mock) - before - 1
    if calls > 2 * CACHED_BODIES:
        problems = (*problems, f"{calls} calls to the upstream for {2 * CACHED_BODIES} bodies")
    name = f"cache hit, 32 connections, {bench.label}: "
    rows = [
        Row(
            measure=name + "CPU us/request",
            product=product.cpu_us_per_request,
            budget=_unless_postgres(bench, 300),
            stretch=_unless_postgres(bench, 250),
        ),
        Row(measure=name + "requests/s", product=product.requests_per_second),
        Row(measure=name + "latency p50, ms", product=product.p50_us / 1_000, digits=2),
    ]
    return [replace(row, problems=problems) for row in rows]


def measure_stream(bench: Bench) -> list[Row]:
    """Streams of 200 events from 8 connections."""
    product, floor = _load_both(bench, "bench-stream", connections=8)
    name = f"200-event stream, 8 connections, {bench.label}: "
    problems = product.problems + floor.problems
    rows = [
        Row(
            measure=name + "CPU ms/stream",
            product=product.cpu_us_per_request / 1_000,
            floor=floor.cpu_us_per_request / 1_000,
            budget=_unless_postgres(bench, 4),
            stretch=_unless_postgres(bench, 2.5),
            digits=2,
        ),
        Row(measure=name + "streams/s", product=product.requests_per_second, floor=floor.requests_per_second),
    ]
    return [replace(row, problems=problems) for row in rows]


def measure_latency(bench: Bench) -> list[Row]:
    """One call at a time, and the first token of a stream: what the product adds to the upstream's own."""
    name = f"JSON, 1 connection, {bench.label}: "
    direct = _load(bench, Target(url=bench.mock.json_url, model="bench-json"), connections=1)
    product, floor = _load_both(bench, "bench-json", connections=1)
    problems = direct.problems + product.problems + floor.problems
    rows = [
        Row(
            measure=name + "added latency p50, ms",
            product=(product.p50_us - direct.p50_us) / 1_000,
            floor=(floor.p50_us - direct.p50_us) / 1_000,
            budget=_unless_postgres(bench, 1.5),
            stretch=_unless_postgres(bench, 1.0),
            digits=2,
        ),
        *_list_percentiles(name, product, floor),
    ]
    return [*(replace(row, problems=problems) for row in rows), _measure_first_token(bench)]


def measure_memory(bench: Bench) -> list[Row]:
    """1,000 streams open at once, one event a second each."""
    with _run_floor(bench, "bench-slow") as target:
        floor = asyncio.run(hold_streams(target, streams=SLOW_STREAMS, events=SLOW_EVENTS))
    product = asyncio.run(hold_streams(bench.product.target("bench-slow"), streams=SLOW_STREAMS, events=SLOW_EVENTS))
    name = f"{SLOW_STREAMS:,} slow streams, {bench.label}: "
    rows = [
        Row(measure=name + "memory before, MB", product=product.idle_bytes / 1e6, floor=floor.idle_bytes / 1e6),
        Row(
            measure=name + "memory, MB",
            product=product.peak_bytes / 1e6,
            floor=floor.peak_bytes / 1e6,
            budget=_unless_postgres(bench, 300),
            stretch=_unless_postgres(bench, 200),
        ),
    ]
    return [replace(row, problems=product.problems + floor.problems) for row in rows]


# Memory stands first: the load of the other sections leaves the process larger, which would count as streams.
SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "memory": measure_memory,
    "json": measure_json,
    "cache": measure_cache,
    "stream": measure_stream,
    "latency": measure_latency,
}


def _measure_first_token(bench: Bench) -> Row:
    direct = Target(url=bench.upstream_urls["bench-first-token"], model="bench-first-token")
    with _run_floor(bench, "bench-first-token") as floor:
        targets = {"direct": direct, "floor": floor, "product": bench.product.target("bench-first-token")}
        streams = 50 if bench.quick else 200
        times = asyncio.run(measure_first_tokens(targets, streams=streams, events=FIRST_TOKEN_EVENTS))
    return Row(
        measure=f"time to first token, {bench.label}: added p50, ms",
        product=times["product"].p50_ms - times["direct"].p50_ms,
        floor=times["floor"].p50_ms - times["direct"].p50_ms,
        budget=_unless_postgres(bench, 2),
        stretch=_unless_postgres(bench, 1),
        digits=2,
        problems=tuple(problem for time in times.values() for problem in time.problems),
    )


def _load_both(bench: Bench, model: str, *, connections: int) -> tuple[LoadResult, LoadResult]:
    """Load the product and the pass-through by turns, two runs each, and return their joined results."""
    before = count_calls(bench.mock)
    products: list[LoadResult] = []
    floors: list[LoadResult] = []
    with _run_floor(bench, model) as floor:
        # The middle two are the product's, so a machine that slows down or speeds up favours neither.
        for target, results in (
            (floor, floors),
            (bench.product.target(model), products),
            (bench.product.target(model), products),
            (floor, floors),
        ):
            results.append(_load(bench, target, connections=connections))
    product, passed = merge_results(products), merge_results(floors)
    calls = count_calls(bench.mock) - before
    if calls < product.requests + passed.requests:
        unpaid = product.requests + passed.requests - calls
        product = replace(product, problems=(*product.problems, f"{unpaid} answers without an upstream call"))
    return product, passed


def _load(bench: Bench, target: Target, *, connections: int) -> LoadResult:
    return run_load(
        target,
        connections=connections,
        seconds=bench.seconds,
        stream=target.model == "bench-stream",
        scratch=bench.scratch,
    )


@contextlib.contextmanager
def _run_floor(bench: Bench, model: str) -> Iterator[Target]:
    with run_passthrough(bench.upstream_urls[model], bench.scratch, name=model) as server:
        yield Target(url=server.url, model=model, server=server)


def _list_percentiles(name: str, product: LoadResult, floor: LoadResult) -> list[Row]:
    return [
        Row(
            measure=f"{name}latency p50, ms",
            product=product.p50_us / 1_000,
            floor=floor.p50_us / 1_000,
            digits=2,
        ),
        Row(
            measure=f"{name}latency p95, ms",
            product=product.p95_us / 1_000,
            floor=floor.p95_us / 1_000,
            digits=2,
        ),
        Row(
            measure=f"{name}latency p99, ms",
            product=product.p99_us / 1_000,
            floor=floor.p99_us / 1_000,
            digits=2,
        ),
    ]


def _unless_postgres(bench: Bench, bound: float) -> float | None:
    return None if bench.on_postgres else bound

"""Load from wrk: one run, its figures, and the CPU time that the server took meanwhile."""

import http.client
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bench.processes import BenchError, Server, read_use

# Every body is different, so that neither a response cache nor the joining of identical calls flatters the figures,
# but for a target that says how many there are. An answer is checked only for streams: looking at one costs wrk as much
# as sending it.
SCRIPT = """\
local head, tail = {head}, {tail}
local number = 0
wrk.method = "POST"
{headers}
function request()
  number = (number + 1) % {distinct}
  return wrk.format(nil, nil, nil, head .. number .. tail)
end
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
cut = 0
{check}
function done(summary, latency, requests)
  local e, lost = summary.errors, 0
  for _, thread in ipairs(threads) do lost = lost + thread:get("cut") end
  print(string.format(
    '@{{"requests":%d,"duration_us":%d,"refused":%d,"broken":%d,"cut":%d,"p50_us":%d,"p95_us":%d,"p99_us":%d}}',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout, lost,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""

# The end marker stands in the last bytes, but for an event that the gateway may add after it.
STREAM_CHECK = """\
function response(status, headers, body)
  if not string.find(body, "data: [DONE]", -2000, true) then cut = cut + 1 end
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send chat completions, and as whom."""

    # Base URL without `/v1`.
    url: str
    model: str
    # The process to take CPU time and memory from; None where only the answers count.
    server: Server | None = None
    headers: dict[str, str] = field(default_factory=dict)
    # How many different bodies are sent, by turns.
    distinct: int = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    requests: int
    seconds: float
    # User and system time of the server's processes; 0 without a server.
    cpu_seconds: float
    # At which wrk had the whole answer, in microseconds.
    p50_us: float
    p95_us: float
    p99_us: float
    # Why the figures do not count, each with its number; empty for a good run.
    problems: tuple[str, ...]

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_us_per_request(self) -> float:
        return self.cpu_seconds * 1e6 / self.requests if self.requests else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: bytes


def send_once(url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Send one request, POST with a body and GET without. Raises OSError or HTTPException."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET" if body is None else "POST", parts.path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(status=response.status, body=response.read())
    finally:
        connection.close()


def find_wrk() -> str | None:
    """Return the path of wrk, or None."""
    return shutil.which("wrk")


def build_body(model: str, *, text: str, stream: bool) -> bytes:
    """Return a chat completion request with room for the limits of a real one."""
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are the keeper of a toll gate. Answer in one sentence."},
            {"role": "user", "content": text},
        ],
        "max_tokens": 256,
        "temperature": 0.2,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return orjson.dumps(body)


def run_load(
    target: Target, *, connections: int, seconds: float, stream: bool, scratch: Path, warm_seconds: float = 2
) -> LoadResult:
    """Warm up, then load the target from so many connections and return the figures of the second part."""
    script = scratch / "load.lua"
    script.write_text(_render_script(target, stream=stream))
    if warm_seconds:
        _run_wrk(target, script, connections, warm_seconds)
    before = read_use(target.server).cpu_seconds if target.server else 0.0
    output = _run_wrk(target, script, connections, seconds)
    after = read_use(target.server).cpu_seconds if target.server else 0.0
    return parse_output(output, cpu_seconds=after - before)


def parse_output(output: str, *, cpu_seconds: float) -> LoadResult:
    """Read the figures that the script printed at the end of a run."""
    lines = [line for line in output.splitlines() if line.startswith("@")]
    if not lines:
        raise BenchError(f"wrk printed no figures:\n{output}")
    figures: dict[str, int] = orjson.loads(lines[-1][1:])
    problems = [
        f"{figures[key]} {words}"
        for key, words in (
            ("refused", "answers of 400 or more"),
            ("broken", "socket errors"),
            ("cut", "cut streams"),
        )
        if figures[key]
    ]
    if not figures["requests"]:
        problems.append("no answer at all")
    return LoadResult(
        requests=figures["requests"],
        seconds=figures["duration_us"] / 1e6,
        cpu_seconds=cpu_seconds,
        p50_us=figures["p50_us"],
        p95_us=figures["p95_us"],
        p99_us=figures["p99_us"],
        problems=tuple(problems),
    )


def merge_results(results: Sequence[LoadResult]) -> LoadResult:
    """Join runs of one target: sums of counts and times, means of the percentiles."""
    count = len(results)
    return LoadResult(
        requests=sum(result.requests for result in results),
        seconds=sum(result.seconds for result in results),
        cpu_seconds=sum(result.cpu_seconds for result in results),
        p50_us=sum(result.p50_us for result in results) / count,
        p95_us=sum(result.p95_us for result in results) / count,
        p99_us=sum(result.p99_us for result in results) / count,
        problems=tuple(problem for result in results for problem in result.problems),
    )


def _render_script(target: Target, *, stream: bool) -> str:
    head, _, tail = (
        build_body(target.model, text="How many carts passed? Count @", stream=stream).decode().partition("@")
    )
    # A run tells its bodies from those of earlier runs by the clock.
    head += f"{time.time_ns()}-"
    headers = {"content-type": "application/json"} | target.headers
    return SCRIPT.format(
        head=_quote(head),
        tail=_quote(tail),
        distinct=target.distinct,
        headers="\n".join(f"wrk.headers[ {_quote(name)} ] = {_quote(value)}" for name, value in headers.items()),
        check=STREAM_CHECK if stream else "",
    )


def _quote(text: str) -> str:
    """Return a Lua string in long brackets: JSON needs no escape there."""
    return f"[==[{text}]==]"


def _run_wrk(target: Target, script: Path, connections: int, seconds: float) -> str:
    wrk = find_wrk()
    if wrk is None:
        raise BenchError("wrk is missing: apt-get install wrk")
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(script)]
    done = subprocess.run(
        [*command, f"{target.url}/v1/chat/completions"],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    # wrk goes on without a script that it could not load, so its complaint counts as a failure.
    if done.returncode or done.stderr:
        raise BenchError(f"wrk ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout

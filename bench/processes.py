"""Server processes which the benchmark starts, measures and ends.

Every server is the leader of a session of its own, so its workers are found, measured and ended by that
session and nothing else on the machine is ever touched.
"""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The benchmark cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    name: str
    # Scheme, host and port, without a slash at the end.
    url: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUse:
    """What the processes of one session use together."""

    cpu_seconds: float
    resident_bytes: int


def find_free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit; servers started later inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # 1,000 streams take two descriptors each in a gateway, and every server needs some for itself.
    if hard != resource.RLIM_INFINITY and hard < 4_000:
        raise BenchError(f"the hard limit of open files is {hard}; 4,000 are needed (ulimit -Hn)")


@contextlib.contextmanager
def run_server(
    *,
    name: str,
    command: Sequence[str],
    port: int,
    scratch: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ready_seconds: float = 30,
) -> Iterator[Server]:
    """Run a server for the length of the block, from the moment its port answers.

    Its output goes to `<scratch>/<name>.log`. Raises BenchError with the end of that log when it does not
    come up.
    """
    log = scratch / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    server = Server(name=name, url=f"http://127.0.0.1:{port}", process=process, log=log)
    try:
        _wait_for_port(server, port, ready_seconds)
        yield server
    finally:
        stop_server(server)


def stop_server(server: Server, *, grace_seconds: float = 30) -> int:
    """End a server, gently first, and return its exit code. A repeat is safe.

    The leader alone gets SIGTERM, as from a process manager: how it ends its workers is part of the test.
    """
    if server.process.poll() is None:
        server.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(timeout=grace_seconds)
    # Workers that outlive their leader keep its process group, so this reaches them and no one else.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGKILL)
    return server.process.wait(timeout=10)


def read_use(server: Server) -> ProcessUse:
    """Sum up what the server's leader, its clerk and its workers use now.

    Processes that were forked share pages: those count once, with the largest; of the others only their own.
    """
    ticks = 0
    resident: list[int] = []
    own: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The command name may hold spaces and brackets; the fields after the last one are plain (proc(5)).
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != server.process.pid:
                continue
            sizes = (folder / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
        resident.append(_sum_sizes(sizes, "Rss"))
        own.append(_sum_sizes(sizes, "Private_Clean", "Private_Dirty"))
    largest = resident.index(max(resident)) if resident else 0
    memory = sum(resident[largest : largest + 1]) + sum(own[:largest]) + sum(own[largest + 1 :])
    return ProcessUse(cpu_seconds=ticks / TICKS_PER_SECOND, resident_bytes=memory)


def _sum_sizes(text: str, *names: str) -> int:
    """Return the sum of lines such as `Rss:   1234 kB`, in bytes."""
    lines = (line.split() for line in text.splitlines())
    return sum(int(line[1]) * 1_024 for line in lines if line[0].rstrip(":") in names)


def read_log_end(server: Server, *, lines: int = 20) -> str:
    """Return the last lines that the server wrote."""
    return "\n".join(server.log.read_text(errors="replace").splitlines()[-lines:])


def _wait_for_port(server: Server, port: int, ready_seconds: float) -> None:
    deadline = time.monotonic() + ready_seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise BenchError(f"{server.name} ended with {server.process.returncode}:\n{read_log_end(server)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise BenchError(f"{server.name} did not listen within {ready_seconds} s:\n{read_log_end(server)}")

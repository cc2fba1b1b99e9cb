"""The production server: uvicorn with httptools and uvloop (measured against granian, docs/decisions/0003).

SIGTERM drains in this order: /readyz fails and new calls are refused (connections are still accepted for
DRAIN_DELAY_SECONDS, so that balancers notice), streams get DRAIN_TIMEOUT_SECONDS to end, what is left is ended with an
error event, everything is booked. A second signal skips the delay.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn

from gateway.admission.office import fork_clerk
from gateway.runtime import current_runtime, use_forked_clerk
from platform_site.environment import Environment

logger = logging.getLogger(__name__)

# Between the end of the drain and the end of uvicorn's patience: the calls that were ended settle in it.
_SETTLE_SECONDS = 8
_LOOK_EVERY_SECONDS = 0.5


class DrainingServer(uvicorn.Server):
    """uvicorn's server with a drain before its shutdown."""

    def __init__(self, config: uvicorn.Config, environment: Environment) -> None:
        super().__init__(config)
        self._delay_seconds = environment.drain_delay_seconds
        self._timeout_seconds = environment.drain_timeout_seconds
        self._drain: asyncio.Future[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal; stop at once at the second."""
        runtime = current_runtime()
        if runtime is None or runtime.is_draining:
            self._delay_seconds = 0
            self.should_exit = True
            return
        runtime.is_draining = True
        asyncio.get_running_loop().call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._drain = asyncio.ensure_future(self._drain_calls())

    async def _drain_calls(self) -> None:
        await asyncio.sleep(self._delay_seconds)
        runtime = current_runtime()
        if runtime is not None:
            await runtime.drain(within_seconds=self._timeout_seconds)
        self.should_exit = True


def make_config(environment: Environment) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    return uvicorn.Config(
        "platform_site.asgi:application",
        http="httptools",
        # The implementation with flow control whose send() fails once the client has gone.
        ws="websockets-sansio",
        ws_max_size=environment.max_body_bytes + 10_000,
        loop="uvloop",
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_SETTLE_SECONDS,
    )


def listen(environment: Environment) -> socket.socket:
    """Return the bound socket. Raises OSError when the address is taken."""
    family = socket.AF_INET6 if ":" in environment.host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((environment.host, environment.port))
    bound.set_inheritable(True)
    return bound


def fork_clerk_if_wanted(environment: Environment, closing: Sequence[int] = ()) -> None:
    """Give this process's runtime a clerk in a process of its own, unless settings ask for a thread.

    Before any thread starts; `closing` are descriptors that the clerk's process is not to hold open.
    """
    if environment.clerk == "process":
        use_forked_clerk(
            fork_clerk(
                batch_limit=environment.admission_batch_limit,
                lease_seconds=environment.worker_lease_seconds,
                closing=closing,
            )
        )


def run_worker(environment: Environment, bound: socket.socket) -> None:
    """Serve in this process until told to stop."""
    server = DrainingServer(make_config(environment), environment)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[bound]))


class Supervisor:
    """Runs several workers on one socket, starts those again that die, and drains all of them at SIGTERM.

    Each worker's standard input is a pipe from here: when this process is gone, also by kill -9, the workers drain.
    """

    def __init__(self, environment: Environment, bound: socket.socket) -> None:
        self._count = environment.workers
        self._bound = bound
        self._workers: list[subprocess.Popen[bytes]] = []
        self._is_stopping = False

    def run(self) -> None:
        """Supervise until told to stop and every worker has drained."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._workers = [self._start() for _ in range(self._count)]
        while not self._is_stopping:
            time.sleep(_LOOK_EVERY_SECONDS)
            for position, worker in enumerate(self._workers):
                if worker.poll() is not None and not self._is_stopping:
                    logger.warning("worker %s ended with code %s, starting another", worker.pid, worker.returncode)
                    self._workers[position] = self._start()
        for worker in self._workers:
            worker.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        descriptor = self._bound.fileno()
        command = [sys.executable, sys.argv[0], "serve", "--worker-socket", str(descriptor)]
        # A group of its own: Ctrl-C reaches the supervisor alone, which drains the workers in order.
        return subprocess.Popen(command, pass_fds=[descriptor], stdin=subprocess.PIPE, process_group=0)  # noqa: S603 - our own program

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)


def run_supervised_worker(environment: Environment, descriptor: int) -> None:
    """Serve as one of a supervisor's workers, on the socket that it handed down."""
    fork_clerk_if_wanted(environment, closing=[descriptor])
    threading.Thread(target=_drain_when_orphaned, name="orphan-watch", daemon=True).start()
    run_worker(environment, socket.socket(fileno=descriptor))


def _drain_when_orphaned() -> None:
    # Returns when the supervisor is gone. Not through sys.stdin: its lock would be held at this process's own end.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)

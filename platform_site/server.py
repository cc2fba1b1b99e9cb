"""The production server: uvicorn with httptools and uvloop (measured against granian, docs/decisions/0003).

SIGTERM drains in this order: /readyz fails and new calls are refused (connections are still accepted for
DRAIN_DELAY_SECONDS, so that balancers notice), streams get DRAIN_TIMEOUT_SECONDS to end, what is left is ended with an
error event, everything is booked. A second signal skips the delay.
"""

import asyncio
import signal
import socket
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from gateway.runtime import current_runtime
from platform_site.environment import Environment

# Between the end of the drain and the end of uvicorn's patience: the calls that were ended settle in it.
_SETTLE_SECONDS = 8


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
        timeout_graceful_shutdown=int(_SETTLE_SECONDS),
        workers=environment.workers,
    )


def listen(environment: Environment) -> socket.socket:
    """Return the bound socket. Raises OSError when the address is taken."""
    family = socket.AF_INET6 if ":" in environment.host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((environment.host, environment.port))
    bound.set_inheritable(True)
    return bound


def run_server(environment: Environment, bound: socket.socket) -> None:
    """Serve until told to stop."""
    config = make_config(environment)
    if environment.workers == 1:
        run_worker([bound])
    else:
        Multiprocess(config, target=run_worker, sockets=[bound]).run()


def run_worker(sockets: list[socket.socket] | None = None) -> None:
    """Run one server process: this one, or a child of the supervisor."""
    from platform_site.settings import ENVIRONMENT  # noqa: PLC0415 - a spawned child imports this module first

    server = DrainingServer(make_config(ENVIRONMENT), ENVIRONMENT)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    runner: Any = asyncio.Runner(loop_factory=server.config.get_loop_factory())
    with runner:
        runner.run(server.serve(sockets=sockets))

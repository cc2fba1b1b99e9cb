"""What one server process owns: its clerk, its HTTP client, its snapshots of keys, the calls in flight.

One a process and event loop: made by the ASGI lifespan, or at the first call where a server has none (daphne's
`runserver`). Closed in order: no new calls, calls in flight end or are ended, everything is booked.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from django.conf import settings

from gateway.admission.clerk import Clerk
from gateway.admission.front import ClerkFront
from gateway.admission.office import ForkedClerk
from gateway.admission.remote import RemoteClerk
from gateway.bounds import read_bounds
from gateway.breakers import Breakers
from gateway.caching.answers import AnswerCache
from gateway.caching.keys import KeyMaker
from gateway.chat.counting import load_vocabulary
from gateway.chat.parameters import known_parameters
from gateway.control import CallControl, StopReason
from gateway.load import LoadMeter, Pressure
from gateway.streams.buffer import StreamBounds
from gateway.streams.keeping import KeptStreams
from gateway.streams.pulse import Pulse
from gateway.upstreams.wire.client import WireClient
from keys.principals import Principal

if TYPE_CHECKING:
    # It holds a flight, which knows its runtime.
    from gateway.caching.shared_calls import SharedCall

    # With it comes the client of Redis, which a server without Redis does not load.
    from gateway.streams.mirror import StreamMirror

logger = logging.getLogger(__name__)

# Snapshots kept, oldest out first; each is a few kilobytes.
_MOST_PRINCIPALS = 10_000
_SETTLE_GRACE_SECONDS = 5.0
_DEADLINE_RESOLUTION_SECONDS = 0.1


class ClosableSocket(Protocol):
    """What the runtime asks of an open WebSocket."""

    async def close_for_shutdown(self) -> None:
        """Close it with the code that says so."""


class Runtime:
    """The process's state of the data plane; all methods belong to its event loop."""

    def __init__(self) -> None:
        environment = settings.ENVIRONMENT
        self.clerk = _make_clerk()
        self.load = LoadMeter(
            queue_limit=environment.admission_queue_limit, calls_limit=environment.max_calls_in_flight
        )
        self.breakers = Breakers(failures=environment.breaker_failures, rest_seconds=environment.breaker_rest_seconds)
        self.peppers = tuple(settings.KEY_PEPPERS)
        self.max_body_bytes = environment.max_body_bytes
        self.bounds = read_bounds()
        self.client_stall_seconds = environment.client_stall_seconds
        self.settle_timeout_seconds = environment.settle_timeout_seconds
        self.websocket_calls_limit = environment.websocket_calls_limit
        self.pulse = Pulse()
        self.streams = KeptStreams(
            StreamBounds(
                keep_seconds=environment.stream_keep_seconds,
                away_seconds=environment.stream_away_seconds,
                buffer_bytes=environment.stream_buffer_bytes,
                total_bytes=environment.stream_buffers_bytes,
            ),
            _mirror(environment.redis_url, environment.stream_keep_seconds),
        )
        self.cache_keys = KeyMaker()
        self.answers: AnswerCache
        # Those in flight, by customer and key.
        self.shared_calls: dict[tuple[int, bytes], SharedCall] = {}
        self.loop: asyncio.AbstractEventLoop
        self.upstreams: WireClient
        self.is_draining = False
        # Open WebSockets, to be told when the server goes away.
        self.sockets: set[ClosableSocket] = set()
        self._deadline_keeper: asyncio.Task[None]
        self._principals: dict[bytes, Principal] = {}
        self._cache_secret = secrets.token_bytes(32)
        # What stands for keys by which the platform itself calls: by line, and the other way round.
        self._borrowed: dict[int, str] = {}
        self._lines: dict[str, int] = {}
        self._calls: set[CallControl] = set()
        self._orphans: set[asyncio.Task[None]] = set()
        # Somebody waits for the last call to end.
        self._all_ended: asyncio.Event | None = None

    @property
    def is_ready(self) -> bool:
        """Return whether new calls can be taken: the database answers and nobody is shutting down."""
        return not self.is_draining and self.clerk.is_healthy

    @property
    def calls_in_flight(self) -> int:
        return len(self._calls)

    def read_pressure(self, upstreams: Iterable[str]) -> Pressure:
        """Return how full this process is for a call that could go to any of `upstreams`."""
        now = asyncio.get_running_loop().time()
        return self.load.read(now, waiting=self.clerk.waiting, calls=len(self._calls), upstreams=upstreams)

    async def start(self) -> None:
        """Load what is slow to load, open the client, start the clerk."""
        self.loop = asyncio.get_running_loop()
        load_vocabulary()
        known_parameters()
        self.upstreams = WireClient()
        environment = settings.ENVIRONMENT
        self.answers = AnswerCache(
            memory_bytes=environment.cache_memory_mb * 1_000_000, redis_url=environment.redis_url
        )
        await self.clerk.start()
        self._deadline_keeper = asyncio.create_task(self._keep_deadlines(), name="deadlines")

    async def drain(self, *, within_seconds: float) -> None:
        """Take no more calls, give those in flight some time, end the rest, then close the WebSockets."""
        self.is_draining = True
        self.streams.drain()
        await self.end_calls(within_seconds=within_seconds)
        await asyncio.gather(*(socket.close_for_shutdown() for socket in tuple(self.sockets)))

    async def stop(self, *, drain_seconds: float) -> None:
        """Drain, book everything, give up the lease."""
        await self.drain(within_seconds=drain_seconds)
        self._deadline_keeper.cancel()
        await self.streams.close()
        await self.clerk.stop(timeout_seconds=_SETTLE_GRACE_SECONDS)
        self.upstreams.close()
        await self.answers.close()

    async def end_calls(self, *, within_seconds: float) -> None:
        """Wait for the calls in flight, then stop those that are left and wait for their settlement."""
        if await self._ended(within_seconds):
            return
        logger.warning("stopping: %s calls did not end in %s s and are ended now", len(self._calls), within_seconds)
        for control in tuple(self._calls):
            control.stop(StopReason.SERVER_STOPPING)
        if not await self._ended(_SETTLE_GRACE_SECONDS):
            logger.error("stopping: %s calls are left to the expiry of their holds", len(self._calls))

    def enter_call(self, control: CallControl) -> None:
        """Count a call as in flight, until `leave_call`."""
        self._calls.add(control)

    def leave_call(self, control: CallControl) -> None:
        """Count a call as ended."""
        self._calls.discard(control)
        if self._all_ended is not None and not self._calls:
            self._all_ended.set()

    def keep(self, task: "asyncio.Task[None]") -> None:
        """Hold on to a call's task whose connection is gone: the event loop itself would forget it."""
        self._orphans.add(task)
        task.add_done_callback(self._orphans.discard)

    def find_cached_principal(self, token: str) -> Principal | None:
        """Return the last snapshot of a key, if there is one; it may be outdated."""
        return self._principals.get(self._cache_key(token))

    def keep_principal(self, token: str, principal: Principal | None) -> None:
        """Keep a snapshot, or forget it. Unknown keys are not remembered: guessing fills no memory."""
        key_hash = self._cache_key(token)
        self._principals.pop(key_hash, None)
        if principal is not None:
            if len(self._principals) >= _MOST_PRINCIPALS:
                self._principals.pop(next(iter(self._principals)))
            self._principals[key_hash] = principal

    def borrow_key(self, line_id: int) -> str:
        """Return what stands for the key of a line whose text nobody knows; it is good in this process only."""
        token = self._borrowed.get(line_id)
        if token is None:
            token = self._borrowed[line_id] = secrets.token_urlsafe(32)
            self._lines[token] = line_id
        return token

    def find_borrowed_line(self, token: str) -> int | None:
        """Return the line whose key a token of `borrow_key` stands for; None for the token of a caller."""
        return self._lines.get(token)

    def _cache_key(self, token: str) -> bytes:
        """Return the key of a token's snapshot: BLAKE2b under a secret of this process.

        Tokens themselves are not kept, and neither is what the database stores of them (0.5 us, one for all peppers).
        """
        return hashlib.blake2b(token.encode(errors="replace"), key=self._cache_secret, digest_size=20).digest()

    async def _keep_deadlines(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_DEADLINE_RESOLUTION_SECONDS)
            now = loop.time()
            for control in self._calls:
                control.check_deadline(now)

    async def _ended(self, within_seconds: float) -> bool:
        if not self._calls:
            return True
        self._all_ended = self._all_ended or asyncio.Event()
        self._all_ended.clear()
        try:
            async with asyncio.timeout(within_seconds):
                await self._all_ended.wait()
        except TimeoutError:
            return False
        return True


def _mirror(redis_url: str, keep_seconds: float) -> "StreamMirror | None":
    """Return what shares streams with other processes: without Redis there are none."""
    if not redis_url or not keep_seconds:
        return None
    from gateway.streams.mirror import StreamMirror  # noqa: PLC0415 - see above

    return StreamMirror(redis_url, keep_seconds=keep_seconds)


def _make_clerk() -> ClerkFront:
    """Return a clerk in its own process where one has been forked, else in a thread."""
    global _forked_clerk
    environment = settings.ENVIRONMENT

    def make_thread(lease_id: int = 0) -> Clerk:
        return Clerk(
            queue_limit=environment.admission_queue_limit,
            batch_limit=environment.admission_batch_limit,
            lease_seconds=environment.worker_lease_seconds,
            lease_id=lease_id,
        )

    forked, _forked_clerk = _forked_clerk, None
    if forked is None:
        return make_thread()
    return RemoteClerk(forked, queue_limit=environment.admission_queue_limit, make_stand_in=make_thread)


def use_forked_clerk(forked: ForkedClerk) -> None:
    """Let the runtime that is started next have this clerk."""
    global _forked_clerk  # noqa: PLW0603
    _forked_clerk = forked


_forked_clerk: ForkedClerk | None = None
_runtime: Runtime | None = None
_starting: asyncio.Lock | None = None


async def get_runtime() -> Runtime:
    """Return this process's runtime, starting it at the first use."""
    global _starting  # noqa: PLW0603 - one a process, by design
    if _runtime is not None:
        return _runtime
    _starting = _starting or asyncio.Lock()
    async with _starting:
        # Another task may have started it while this one waited.
        return current_runtime() or await start_runtime()


async def start_runtime() -> Runtime:
    """Start this process's runtime."""
    global _runtime  # noqa: PLW0603
    runtime = Runtime()
    await runtime.start()
    _runtime = runtime
    return runtime


async def stop_runtime(*, drain_seconds: float) -> None:
    """Stop this process's runtime, if there is one."""
    global _runtime, _starting
    runtime, _runtime, _starting = _runtime, None, None
    if runtime is not None:
        await runtime.stop(drain_seconds=drain_seconds)


def current_runtime() -> Runtime | None:
    """Return the runtime if it has been started."""
    return _runtime

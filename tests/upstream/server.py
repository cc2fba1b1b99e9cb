"""The scripted upstream itself: a real HTTP server on loopback, in a thread and event loop of its own.

So it answers sync tests, async tests and other processes alike, and keeps answering while a test blocks.
"""

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from aiohttp import web

from tests.upstream.behaviours import Behaviour, JsonObject
from tests.upstream.journal import Journal, Outcome, RecordedRequest, Requests
from tests.upstream.routes import Routes
from tests.upstream.script import Script

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 10
WAIT_SECONDS = 5.0


class ScriptedUpstream:
    """A provider of both dialects that does as it is told; a context manager, safe to use from any thread."""

    def __init__(self, *, port: int = 0, models: tuple[str, ...] = ("scripted-model",)) -> None:
        # 0 until the first start picks a free one; kept afterwards, so that a restart has the same address.
        self.port = port
        self._models = models
        self._script = Script()
        self._journal = Journal()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def root_url(self) -> str:
        """Where the control API is."""
        return f"http://{HOST}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as base URL."""
        return f"{self.root_url}/v1"

    # --- life ---

    def start(self) -> None:
        """Listen; connections are accepted when this returns. Raises OSError when the port is taken."""
        if self._thread is not None:
            raise RuntimeError("already started")
        listening: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="scripted-upstream", daemon=True
        )
        self._thread.start()
        try:
            self.port = listening.result(START_TIMEOUT_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close the listener and every connection, which later requests see as refused. Safe to repeat."""
        if self._thread is None:
            return
        # Else their disconnects would look like the clients' doing.
        self._journal.end_all(Outcome.CUT)
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = self._loop = self._stopping = None

    async def _serve(self, listening: Future[int]) -> None:
        routes = Routes(script=self._script, journal=self._journal, models=self._models)
        # Handler cancellation is how a held answer learns that its client has gone.
        runner = web.AppRunner(
            routes.make_app(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=0.1,
            handle_signals=False,
        )
        try:
            await runner.setup()
            await web.TCPSite(runner, HOST, self.port, backlog=1024).start()
        except OSError as problem:
            await runner.cleanup()
            listening.set_exception(problem)
            return
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        listening.set_result(runner.addresses[0][1])
        await self._stopping.wait()
        await runner.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # --- script ---

    def queue(self, *behaviours: Behaviour, target: str | None = None) -> None:
        """Script the next requests: of a model, of a path such as "/v1/models", or (None) of all the rest."""
        self._script.queue(*behaviours, target=target)

    def set_default(self, behaviour: Behaviour, *, target: str | None = None) -> None:
        """Script what a request gets when its queue is empty."""
        self._script.set_default(behaviour, target=target)

    def load_script(self, document: JsonObject) -> None:
        """Add a script in its JSON form (`Script.load`). Raises ValueError when it cannot be read."""
        self._script.load(document)

    def count_queued(self) -> int:
        """Return how many queued behaviours no request has taken; a test may assert that it is 0."""
        return self._script.count_queued()

    def reset(self) -> None:
        """Forget script and requests and let go of what is held, so that one server can serve many tests."""
        self._script.reset()
        self._journal.release()
        self._journal.reset()

    # --- holds ---

    def wait_until_held(self, timeout_seconds: float = WAIT_SECONDS, *, n: int = 1) -> Requests:
        """Wait until n requests stand at their hold points at once, and return them. Raises TimeoutError."""
        read = self._journal.read_held
        return self._journal.wait_for(read, n=n, timeout_seconds=timeout_seconds, what="held requests")

    def release(self) -> int:
        """Let the requests held now go on, and return how many; later ones hold as scripted."""
        return self._journal.release()

    # --- what was seen ---

    @property
    def requests(self) -> Requests:
        """Chat completion requests in order of arrival."""
        return self._journal.read_chats()

    def requests_to(self, path: str) -> Requests:
        """Requests to exactly this path, in order of arrival."""
        return tuple(request for request in self._journal.read_all() if request.path == path)

    def wait_for_requests(self, n: int = 1, timeout_seconds: float = WAIT_SECONDS) -> Requests:
        """Wait until n chat requests have arrived, and return all. Raises TimeoutError."""
        read = self._journal.read_chats
        return self._journal.wait_for(read, n=n, timeout_seconds=timeout_seconds, what="requests")

    def wait_for_ends(self, n: int = 1, timeout_seconds: float = WAIT_SECONDS) -> Requests:
        """Wait until n chat requests have ended, in whatever way, and return those. Raises TimeoutError."""
        return self._journal.wait_for(self._read_ended, n=n, timeout_seconds=timeout_seconds, what="ended requests")

    def wait_for_disconnect(self, timeout_seconds: float = WAIT_SECONDS) -> RecordedRequest:
        """Wait until a client has left before the end of its answer; return the first such request."""
        read = self._read_disconnected
        return self._journal.wait_for(read, n=1, timeout_seconds=timeout_seconds, what="disconnects")[0]

    def _read_ended(self) -> Requests:
        return tuple(request for request in self.requests if request.outcome is not Outcome.OPEN)

    def _read_disconnected(self) -> Requests:
        return tuple(request for request in self.requests if request.is_disconnected)

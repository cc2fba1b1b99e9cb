"""The clerk in a thread: turns queued questions into batches (group commit) and answers them.

While one batch commits, the next one gathers in the queue, so the cost of a durable commit is shared by whoever
waits: no timer, no tuning. The event loop never touches the database; it is woken once a batch.
"""

import asyncio
import logging
import queue
import threading
import time
from typing import NamedTuple

from common.clock import SYSTEM_CLOCK, Clock
from gateway.admission.context import BatchContext
from gateway.admission.desk import RETRY_SECONDS, Desk, Entry, Result
from gateway.admission.front import ClerkFront
from gateway.admission.worker import WorkerLease
from gateway.breakers import HealthBook
from gateway.catalogue import Catalogue
from gateway.errors import AdmissionUnavailable

logger = logging.getLogger(__name__)

# How long a batch waits for company when the one before had some.
_GATHER_SECONDS = 0.0005


class LeftBehind(NamedTuple):
    """What a clerk had not answered when it ended."""

    entries: list[Entry]
    # Calls whose admission may or may not have been booked, and that nobody will settle.
    abandoned: list[str]


class Clerk(ClerkFront):
    """Owns the admission queue, its thread, and that thread's database connection."""

    def __init__(
        self,
        *,
        queue_limit: int,
        batch_limit: int,
        lease_seconds: float,
        lease_id: int = 0,
        clock: Clock = SYSTEM_CLOCK,
        database: str = "default",
    ) -> None:
        """`lease_id` is a lease to go on with, 0 for one of its own."""
        super().__init__(queue_limit=queue_limit, clock=clock)
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._batch_limit = batch_limit
        self._tick_seconds = lease_seconds / 3
        self._database = database
        lease = WorkerLease(lease_us=int(lease_seconds * 1_000_000), id=lease_id)
        self._context = BatchContext(clock=clock, lease=lease)
        self._thread: threading.Thread | None = None
        # Made by the thread, since a connection belongs to the thread that opens it.
        self._desk: Desk | None = None
        self._stop_deadline: float | None = None
        # How many questions the last batch had.
        self._last_size = 0

    @property
    def catalogue(self) -> Catalogue:
        """Return the catalogue of the last batch (one reference: safe to read from the event loop)."""
        return self._context.catalogue

    @property
    def health(self) -> HealthBook:
        """Return what all processes have found out of deployments, as of the last batch."""
        return self._context.health

    @property
    def is_healthy(self) -> bool:
        """Return whether the last batch came through."""
        return self._desk is not None and self._desk.is_healthy

    @property
    def waiting(self) -> int:
        """Return how many questions are queued."""
        return self._queue.qsize()

    async def start(self) -> None:
        """Start the thread and wait for its first batch.

        Raises AdmissionUnavailable when the database does not answer; starting again is safe then.
        """
        ready = self._begin(asyncio.get_running_loop(), is_patient=False)
        try:
            await ready
        except AdmissionUnavailable:
            self._thread = None  # it has ended; whoever waits for the database may start again
            raise

    def take_over(
        self, loop: asyncio.AbstractEventLoop, left: "LeftBehind", catalogue: Catalogue, health: HealthBook
    ) -> "asyncio.Future[None]":
        """Go on from now on where another clerk has ended, whether the database answers or not.

        The future ends with the first batch that comes through. Until then the snapshots are those that were known.
        """
        self._context.catalogue, self._context.health = catalogue, health
        for request_id in left.abandoned:
            self.abandon(request_id)
        for entry in left.entries:
            self.put(entry)
        return self._begin(loop, is_patient=True)

    def _begin(self, loop: asyncio.AbstractEventLoop, *, is_patient: bool) -> "asyncio.Future[None]":
        self._loop = loop
        ready: asyncio.Future[None] = loop.create_future()
        how = {"is_patient": is_patient}
        self._thread = threading.Thread(target=self._run, args=(ready,), kwargs=how, name="clerk", daemon=True)
        self._thread.start()
        return ready

    async def stop(self, *, timeout_seconds: float) -> None:
        """Book what is queued, give up the lease, end the thread."""
        if self._thread is None:
            return
        self._stop_deadline = time.monotonic() + timeout_seconds
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        # What came in while it ended.
        self._turn_away_queued()

    def is_running(self) -> bool:
        """Return whether questions are taken."""
        return self._thread is not None and self._thread.is_alive()

    def put(self, entry: Entry) -> None:
        """Hand over a question whose ticket is its future, or None where nobody waits."""
        self._queue.put(entry)

    def abandon(self, request_id: str) -> None:
        """Let the hold of a call expire that nobody will settle."""
        self._context.abandon(request_id)

    # -- the thread

    def _run(self, ready: "asyncio.Future[None]", *, is_patient: bool) -> None:
        desk = self._desk = Desk(self._context, self._resolve, database=self._database)
        try:
            desk.book([])
            if not desk.is_healthy and not is_patient:
                self._resolve([Result(ready, None, AdmissionUnavailable(internal_detail="no database at start"))])
                return
            while True:
                if desk.is_healthy and not ready.done():
                    self._resolve([Result(ready, None, None)])
                entries = self._gather()
                stopping = entries[-1:] == [None]
                desk.book([entry for entry in entries if entry is not None])
                if stopping and self._is_done(desk):
                    break
                if stopping:
                    self._queue.put(None)
                if desk.unbooked:
                    time.sleep(RETRY_SECONDS)
            desk.release()
        except Exception:
            logger.exception("the clerk's thread failed")
            raise
        finally:
            desk.close()
            self._turn_away_queued()

    def _turn_away_queued(self) -> None:
        """Answer whoever is still in the queue of a clerk that has ended: nobody may wait for ever."""
        while self._desk is not None and not self._queue.empty():
            entry = self._queue.get()
            if entry is not None:
                self._desk.turn_away([entry], "the clerk has stopped")

    def _gather(self) -> list[Entry | None]:
        """Wait for a question (or the next tick) and take what has queued up with it; None, last, means stop."""
        entries: list[Entry | None] = []
        is_waiting = self._desk is not None and (self._desk.unbooked or not self._desk.is_healthy)
        try:
            entry = self._queue.get(timeout=RETRY_SECONDS if is_waiting else self._tick_seconds)
            while True:
                entries.append(entry)
                if entry is None or len(entries) >= self._batch_limit:
                    break
                if len(entries) == 1 and self._last_size > 1:
                    # Others are calling too: a moment's wait makes one commit of several. A lone caller never waits.
                    time.sleep(_GATHER_SECONDS)
                entry = self._queue.get_nowait()
        except queue.Empty:
            pass
        self._last_size = len(entries)
        return entries

    def _resolve(self, results: list[Result]) -> None:
        """Wake the event loop once with all results."""
        if not results:
            return
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._set_results, results)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("answers came after the event loop had closed")

    def _is_done(self, desk: Desk) -> bool:
        assert self._stop_deadline is not None
        if desk.unbooked and time.monotonic() < self._stop_deadline:
            return False
        unbooked, desk.unbooked = desk.unbooked, []
        desk.turn_away(unbooked, "stopped without the database")
        return self._queue.empty()

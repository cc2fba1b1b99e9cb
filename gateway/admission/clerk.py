"""The clerk: one thread a process that turns queued questions into batches (group commit) and answers them.

While one batch commits, the next one gathers in the queue, so the cost of a durable commit is shared by whoever
waits: no timer, no tuning. The event loop never touches the database; it is woken once a batch.

When the database fails, admissions are refused at once (fail closed) and settlements stay with the clerk until they
are booked: they are money that is owed.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import InternalError
from common.sql import Sql
from gateway.admission.batch import BatchContext, run_batch
from gateway.admission.commands import (
    Admit,
    Admitted,
    Answer,
    ClaimTrial,
    Command,
    EndTrial,
    FindPrincipal,
    FoundPrincipal,
    Note,
    NoteBreaker,
    Noted,
    NoteFindings,
    NoteProgress,
    NoteRefusal,
    Refused,
    Replayed,
    Reuse,
    Reused,
    Settle,
    Settled,
    Stale,
    TrialClaimed,
)
from gateway.admission.worker import WorkerLease
from gateway.breakers import HealthBook
from gateway.catalogue import Catalogue
from gateway.errors import AdmissionUnavailable, ServerOverloaded

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
# How long a batch waits for company when the one before had some.
_GATHER_SECONDS = 0.0005


# A future of the event loop with its answer or its error; None: nobody waits.
_Result = tuple[asyncio.Future[Any] | None, Answer | None, Exception | None]


@dataclass(frozen=True, slots=True)
class _Entry:
    command: Command
    # None: nobody waits for the answer.
    future: asyncio.Future[Answer] | None


class Clerk:
    """Owns the admission queue, its thread, and that thread's database connection.

    Bound to the event loop that starts it. `submit` must be called from that loop.
    """

    def __init__(
        self,
        *,
        queue_limit: int,
        batch_limit: int,
        lease_seconds: float,
        clock: Clock = SYSTEM_CLOCK,
        database: str = "default",
    ) -> None:
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._tick_seconds = lease_seconds / 3
        self._database = database
        self._context = BatchContext(clock=clock, lease=WorkerLease(lease_us=int(lease_seconds * 1_000_000)))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop_deadline: float | None = None
        # Settlements that the database has not taken yet.
        self._unbooked: list[_Entry] = []
        # How many questions the last batch had.
        self._last_size = 0
        self.is_healthy = False

    @property
    def catalogue(self) -> Catalogue:
        """Return the catalogue of the last batch (one reference: safe to read from the event loop)."""
        return self._context.catalogue

    @property
    def health(self) -> HealthBook:
        """Return what all processes have found out of deployments, as of the last batch."""
        return self._context.health

    @property
    def waiting(self) -> int:
        """Return how many questions are queued."""
        return self._queue.qsize()

    @property
    def now_us(self) -> int:
        """Return the clerk's clock."""
        return self._context.clock.now_us()

    async def start(self) -> None:
        """Start the thread and wait for its first batch: lease taken, catalogue read.

        Raises AdmissionUnavailable when the database does not answer; starting again is safe then.
        """
        self._loop = asyncio.get_running_loop()
        ready = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="clerk", daemon=True)
        self._thread.start()
        try:
            await ready
        except AdmissionUnavailable:
            self._thread = None  # it has ended; whoever waits for the database may start again
            raise

    async def stop(self, *, timeout_seconds: float) -> None:
        """Book what is queued, give up the lease, end the thread."""
        if self._thread is None:
            return
        self._stop_deadline = time.monotonic() + timeout_seconds
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        self._turn_away_queued()

    @overload
    def submit(self, command: FindPrincipal) -> "asyncio.Future[FoundPrincipal]": ...
    @overload
    def submit(self, command: Admit) -> "asyncio.Future[Admitted | Replayed | Refused | Stale]": ...
    @overload
    def submit(self, command: Reuse) -> "asyncio.Future[Reused | Replayed | Refused | Stale]": ...
    @overload
    def submit(self, command: Settle) -> "asyncio.Future[Settled]": ...
    @overload
    def submit(self, command: ClaimTrial) -> "asyncio.Future[TrialClaimed]": ...
    @overload
    def submit(self, command: NoteProgress) -> "asyncio.Future[Noted]": ...
    def submit(self, command: Command) -> "asyncio.Future[Answer]":  # type: ignore[misc]
        """Queue a question and return the future of its answer.

        Raises ServerOverloaded for new work beyond the queue's bound; settlements are never turned away while the
        clerk works. Raises AdmissionUnavailable when it does not.
        """
        if self._thread is None or not self._thread.is_alive():
            raise AdmissionUnavailable(internal_detail="the clerk is not running")
        if not isinstance(command, Settle | NoteProgress) and self._queue.qsize() >= self._queue_limit:
            raise ServerOverloaded
        assert self._loop is not None, "the clerk has not been started"
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._queue.put(_Entry(command, future))
        return future

    def note(self, command: Note | NoteBreaker | EndTrial) -> None:
        """Queue a note whose answer nobody awaits. Of refusals none beyond the queue's bound."""
        if isinstance(command, NoteRefusal) and self._queue.qsize() >= self._queue_limit:
            return
        self._queue.put(_Entry(command, None))

    # -- the thread

    def _run(self, ready: "asyncio.Future[None]") -> None:
        connection = connections[self._database]
        try:
            self._book(connection, [])
            if not self.is_healthy:
                self._resolve([(ready, None, AdmissionUnavailable(internal_detail="no database at start"))])
                return
            self._resolve([(ready, None, None)])
            while True:
                entries = self._gather()
                stopping = entries[-1:] == [None]
                self._book(connection, self._unbooked + [e for e in entries if e is not None])
                if stopping and self._is_done():
                    break
                if stopping:
                    self._queue.put(None)
                if self._unbooked:
                    time.sleep(_RETRY_SECONDS)
            self._release(connection)
        except Exception:
            logger.exception("the clerk's thread failed")
            raise
        finally:
            self.is_healthy = False
            self._turn_away_queued()
            connection.close()

    def _turn_away_queued(self) -> None:
        """Answer whoever is still in the queue of a clerk that has ended: nobody may wait for ever."""
        while not self._queue.empty():
            entry = self._queue.get()
            if entry is not None:
                error = AdmissionUnavailable(internal_detail="the clerk has stopped")
                self._give_back([entry], error, keep_settlements=False)

    def _gather(self) -> list[_Entry | None]:
        """Wait for a question (or the next tick) and take what has queued up with it; None, last, means stop."""
        entries: list[_Entry | None] = []
        try:
            entry = self._queue.get(timeout=_RETRY_SECONDS if self._unbooked else self._tick_seconds)
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

    def _book(self, connection: BaseDatabaseWrapper, entries: Sequence[_Entry]) -> None:
        """Run one batch and resolve its futures; on failure refuse admissions and keep settlements."""
        self._unbooked = []
        try:
            answers = run_batch(connection, [e.command for e in entries], self._context)
        except (OperationalError, InterfaceError) as error:
            logger.warning("admission: the database failed: %s", error)
            self.is_healthy = False
            connection.close()
            self._give_back(entries, AdmissionUnavailable(internal_detail=str(error)), keep_settlements=True)
        except Exception as error:
            if len(entries) > 1:
                # One entry spoils the batch (a violated constraint, say): find it by running each alone.
                unbooked: list[_Entry] = []
                for entry in entries:
                    self._book(connection, [entry])
                    unbooked += self._unbooked
                self._unbooked = unbooked
                return
            logger.exception("admission: a batch failed")
            if isinstance(error, DatabaseError):
                connection.close()
            self._give_back(entries, InternalError(internal_detail=repr(error)), keep_settlements=False)
        else:
            self.is_healthy = True
            self._resolve([(e.future, a, None) for e, a in zip(entries, answers, strict=True)])

    def _give_back(self, entries: Sequence[_Entry], error: Exception, *, keep_settlements: bool) -> None:
        for entry in entries:
            if isinstance(entry.command, Settle | NoteFindings) and keep_settlements:
                self._unbooked.append(entry)
                continue
            if isinstance(entry.command, Settle):
                logger.critical("a settlement cannot be booked, its hold will expire: %s", entry.command)
            self._resolve([(entry.future, None, error)])

    def _resolve(self, results: list[_Result]) -> None:
        """Wake the event loop once with all results."""
        if not results:
            return
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._set_results, results)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("answers came after the event loop had closed")

    def _set_results(self, results: list[_Result]) -> None:
        for future, answer, error in results:
            if future is None:
                continue
            if future.done():
                if isinstance(answer, Admitted):
                    # The caller left while it was being admitted: nobody will settle this hold.
                    self._context.abandon(answer.request_id)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer)

    def _is_done(self) -> bool:
        assert self._stop_deadline is not None
        if self._unbooked and time.monotonic() < self._stop_deadline:
            return False
        error = AdmissionUnavailable(internal_detail="stopped without the database")
        self._give_back(self._unbooked, error, keep_settlements=False)
        self._unbooked = []
        return self._queue.empty()

    def _release(self, connection: BaseDatabaseWrapper) -> None:
        try:
            with connection.wrap_database_errors, transaction.atomic(using=self._database):
                self._context.lease.release(Sql(connection))
        except (OperationalError, InterfaceError) as error:
            logger.warning("the lease could not be released, it will run out: %s", error)

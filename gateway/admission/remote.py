"""The clerk in a process of its own, as the event loop knows it.

Questions of one turn of the loop go over in one frame, answers come back a batch at a time. Should the process end
without being told to, a thread of this one takes its place: it goes on with the lease, books every settlement that was
not answered (one that was booked already is recognised), and whoever waited for an admission is refused.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable

from django.db import connections

from common.clock import SYSTEM_CLOCK, Clock
from common.errors import InternalError
from common.sql import Sql
from gateway.admission.clerk import Clerk, LeftBehind
from gateway.admission.commands import Admit, Reuse, Settle
from gateway.admission.desk import Entry, Result
from gateway.admission.front import ClerkFront
from gateway.admission.messages import Orders, OrderWriter, Report, ReportReader
from gateway.admission.office import ForkedClerk
from gateway.breakers import HealthBook
from gateway.catalogue import EMPTY_CATALOGUE, Catalogue, read_catalogue
from gateway.errors import AdmissionUnavailable

logger = logging.getLogger(__name__)

# Beyond the time that the process was given to stop.
_GRACE_SECONDS = 5.0


class RemoteClerk(ClerkFront):
    """Owns the connection to the clerk's process, and the snapshots that its answers go by."""

    def __init__(
        self,
        forked: ForkedClerk,
        *,
        queue_limit: int,
        make_stand_in: Callable[[int], Clerk],
        clock: Clock = SYSTEM_CLOCK,
        database: str = "default",
    ) -> None:
        """`make_stand_in` returns a clerk that goes on with a lease, given its id."""
        super().__init__(queue_limit=queue_limit, clock=clock)
        self._forked = forked
        self._make_stand_in = make_stand_in
        self._database = database
        self._stand_in: Clerk | None = None
        self._line: _Line | None = None
        self._lost: asyncio.Future[None]
        # Of the process, as last reported.
        self._standing = Report([], is_healthy=False, lease_id=0, generation=-1, health=None)
        self._catalogue = EMPTY_CATALOGUE
        self._health = HealthBook()
        # Questions that have not been answered, by ticket; their tickets here are futures.
        self._asked: dict[int, Entry] = {}
        self._last_ticket = 0
        self._orders: list[Entry] = []
        self._abandoned: list[str] = []
        self._is_flushing = False
        # Reports that wait for the catalogue by which they were made.
        self._held: list[Report] = []
        self._reading: asyncio.Task[None] | None = None
        self._first_report: asyncio.Future[None] | None = None
        self._seeing_off: asyncio.Task[None] | None = None
        self._is_stopping = False

    @property
    def catalogue(self) -> Catalogue:
        """Return the catalogue that the last answer went by, or a later one."""
        return self._catalogue if self._stand_in is None else self._stand_in.catalogue

    @property
    def health(self) -> HealthBook:
        """Return what all processes have found out of deployments, as of the last batch."""
        return self._health if self._stand_in is None else self._stand_in.health

    @property
    def is_healthy(self) -> bool:
        """Return whether the last batch came through."""
        return self._standing.is_healthy if self._stand_in is None else self._stand_in.is_healthy

    @property
    def waiting(self) -> int:
        """Return how many questions have not been answered."""
        return len(self._asked) if self._stand_in is None else self._stand_in.waiting

    async def start(self) -> None:
        """Let the process begin, and wait for its first batch and for the catalogue.

        Raises AdmissionUnavailable when the database does not answer; starting again is safe then.
        """
        self._loop = asyncio.get_running_loop()
        self._first_report = self._loop.create_future()
        if self._line is None:
            self._lost = self._loop.create_future()
            _, self._line = await self._loop.create_unix_connection(
                lambda: _Line(self._take_report, self._note_loss), sock=self._forked.socket
            )
        self._flush()
        await self._first_report
        if not self.is_healthy:
            raise AdmissionUnavailable(internal_detail="no database at start")
        if self.catalogue.generation < 0:
            raise AdmissionUnavailable(internal_detail="the catalogue cannot be read")

    async def stop(self, *, timeout_seconds: float) -> None:
        """Have everything booked and the lease given up, and see the process end."""
        if self._stand_in is not None:
            await self._stand_in.stop(timeout_seconds=timeout_seconds)
        if self._line is None or self._is_stopping:
            return
        self._is_stopping = True
        self._flush(stop_seconds=timeout_seconds)
        try:
            await asyncio.wait_for(asyncio.shield(self._lost), timeout_seconds + _GRACE_SECONDS)
        except TimeoutError:
            logger.exception("the clerk's process does not end; it is killed, its holds will expire")
            _kill(self._forked.pid)
            await self._lost
        if self._reading is not None:
            await self._reading
        error = AdmissionUnavailable(internal_detail="the clerk has stopped")
        asked, self._asked = self._asked, {}
        for entry in asked.values():
            if isinstance(entry.command, Settle):
                logger.critical("a settlement may not be booked, its hold will expire: %s", entry.command)
        self._set_results(Result(entry.ticket, None, error) for entry in asked.values())
        await _see_off(self._forked.pid)

    def is_running(self) -> bool:
        """Return whether questions are taken."""
        if self._stand_in is not None:
            return self._stand_in.is_running()
        return self._line is not None and not self._is_stopping

    # ---- questions

    def put(self, entry: Entry) -> None:
        """Hand over a question whose ticket is its future, or None where nobody waits."""
        if self._stand_in is not None:
            self._stand_in.put(entry)
            return
        self._last_ticket = ticket = self._last_ticket + 1
        self._asked[ticket] = entry
        self._orders.append(Entry(entry.command, ticket))
        self._flush_soon()

    def abandon(self, request_id: str) -> None:
        """Let the hold of a call expire that nobody will settle."""
        if self._stand_in is not None:
            self._stand_in.abandon(request_id)
            return
        self._abandoned.append(request_id)
        self._flush_soon()

    def _flush_soon(self) -> None:
        """Send at the end of this turn of the loop, with what its other calls ask."""
        if not self._is_flushing and self._loop is not None:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self, stop_seconds: float | None = None) -> None:
        self._is_flushing = False
        if self._line is None or self._lost.done():
            return
        entries, self._orders = self._orders, []
        abandoned, self._abandoned = self._abandoned, []
        try:
            self._line.send(Orders(entries, abandoned, stop_seconds))
        except Exception:
            # One that cannot be written must not take the others of its turn along: find it by sending each alone.
            logger.exception("orders cannot be written")
            for entry in entries:
                self._send_alone(entry)
            self._line.send(Orders([], abandoned, stop_seconds))

    def _send_alone(self, entry: Entry) -> None:
        assert self._line is not None
        try:
            self._line.send(Orders([entry], []))
        except Exception as error:
            logger.critical("an order cannot be written: %r", entry.command, exc_info=True)
            asked = self._asked.pop(entry.ticket)
            self._set_results([Result(asked.ticket, None, InternalError(internal_detail=repr(error)))])

    # ---- answers

    def _take_report(self, report: Report) -> None:
        self._standing = report
        if report.is_healthy and (self._reading is not None or report.generation != self._catalogue.generation):
            self._held.append(report)
            if self._reading is None and self._loop is not None:
                self._reading = self._loop.create_task(self._catch_up(), name="catalogue")
            return
        self._deliver(report)

    def _deliver(self, report: Report) -> None:
        if report.health is not None:
            self._health = report.health
        results = []
        for ticket, answer, error in report.results:
            entry = self._asked.pop(ticket, None)
            if entry is not None:
                results.append(Result(entry.ticket, answer, error))
        self._set_results(results)
        if self._first_report is not None and not self._first_report.done():
            self._first_report.set_result(None)

    async def _catch_up(self) -> None:
        """Read the catalogue that the reports held back were made by, then deliver them."""
        try:
            while self._held:
                if self._held[0].generation != self._catalogue.generation:
                    try:
                        self._catalogue = await asyncio.to_thread(self._read_catalogue, self._catalogue)
                    except Exception:
                        # Calls that go by an older one are told so at admission, and refused in the end.
                        logger.exception("the catalogue cannot be read")
                self._deliver(self._held.pop(0))
        finally:
            self._reading = None

    def _read_catalogue(self, previous: Catalogue) -> Catalogue:
        """Return the present catalogue, over a connection of its own.

        Its generation is read first: of what changes while it is read, the next report tells.
        """
        connection = connections[self._database]
        try:
            with connection.wrap_database_errors:
                return read_catalogue(Sql(connection), previous)
        finally:
            connection.close()

    # ---- the end

    def _note_loss(self) -> None:
        """The process has ended; unless it was told to, a thread takes its place."""
        self._lost.set_result(None)
        self._standing = self._standing._replace(is_healthy=False)
        if self._is_stopping or self._loop is None:
            return
        logger.critical("the clerk's process %s is lost; a thread of this process takes its place", self._forked.pid)
        # Should it live and only the line be broken: there must not be two of them on one lease.
        _kill(self._forked.pid)
        stand_in = self._stand_in = self._make_stand_in(self._standing.lease_id)
        left, refused = self._leave_behind()
        ready = stand_in.take_over(self._loop, left, self._catalogue, self._health)
        ready.add_done_callback(self._note_first_batch)
        self._seeing_off = self._loop.create_task(_see_off(self._forked.pid), name="see off the clerk's process")
        self._set_results(refused)

    def _leave_behind(self) -> tuple[LeftBehind, list[Result]]:
        """Return what a stand-in is to go on with, and the refusals of those who ask for themselves."""
        asked, self._asked = self._asked, {}
        error = AdmissionUnavailable(internal_detail="the clerk's process has ended")
        left, refused = LeftBehind([], list(self._abandoned)), []
        for entry in asked.values():
            if isinstance(entry.command, Admit | Reuse):
                admit = entry.command if isinstance(entry.command, Admit) else entry.command.admit
                left.abandoned.append(admit.request_id)
                refused.append(Result(entry.ticket, None, error))
            else:
                left.entries.append(entry)
        return left, refused

    def _note_first_batch(self, ready: "asyncio.Future[None]") -> None:
        if not ready.cancelled() and self._first_report is not None and not self._first_report.done():
            self._first_report.set_result(None)


class _Line(asyncio.Protocol):
    """The connection to the clerk's process."""

    def __init__(self, take: Callable[[Report], None], note_loss: Callable[[], None]) -> None:
        self._take = take
        self._note_loss = note_loss
        self._writer = OrderWriter()
        self._frames = ReportReader()
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, orders: Orders) -> None:
        """Send a frame."""
        self._transport.write(self._writer.write(orders))

    def data_received(self, data: bytes) -> None:
        for report in self._frames.feed(data):
            self._take(report)

    def connection_lost(self, _: Exception | None) -> None:
        self._note_loss()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # a child that has ended keeps its id until it is seen off
        os.kill(pid, signal.SIGKILL)


async def _see_off(pid: int) -> None:
    """Wait for a child that has ended, so that nothing of it is left."""
    try:
        await asyncio.to_thread(os.waitpid, pid, 0)
    except ChildProcessError:
        logger.debug("the clerk's process %s was seen off by somebody else", pid)

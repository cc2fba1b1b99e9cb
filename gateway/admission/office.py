"""The clerk in a process of its own: what it does there, and how that process is made.

The event loop and its clerk then no longer take turns under one interpreter's lock, and batches form by themselves. The
process is forked before the event loop or any thread begins, so the two share most of their memory. It ends when it is
told to or when its event loop has gone, never by a signal: those are for the server, which drains first.
"""

import gc
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from django.db import connections

from billing.pricing import read_price_book
from common.clock import SYSTEM_CLOCK, Clock
from common.sql import Sql
from gateway.admission.commands import Admit, FindPrincipal, Reuse
from gateway.admission.context import BatchContext
from gateway.admission.desk import RETRY_SECONDS, Desk, Entry, Result
from gateway.admission.messages import OrderReader, Orders, Report, write_report
from gateway.admission.worker import WorkerLease
from gateway.catalogue import Catalogue, read_generation

logger = logging.getLogger(__name__)

# Beyond 128 kB the allocator would ask the system for the memory of every read.
_READ_BYTES = 1 << 16
# For an event loop that has gone without a word.
_LAST_BOOKINGS_SECONDS = 10.0
_FOR_CALLERS = (Admit, Reuse, FindPrincipal)


class ForkedClerk(NamedTuple):
    """A clerk's process as seen from its server: the socket to it, and its id."""

    socket: socket.socket
    pid: int


def fork_clerk(*, batch_limit: int, lease_seconds: float, closing: Sequence[int] = ()) -> ForkedClerk:
    """Start a clerk's process; it waits for its first orders before it touches the database.

    Must be called before any thread starts and with no connection to the database open. `closing` are descriptors
    that are not for the clerk, like the socket that the server listens on.
    """
    connections.close_all()
    ours, theirs = socket.socketpair()
    # What is never looked at by the collector is not written to, and stays shared.
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid:
        theirs.close()
        return ForkedClerk(ours, pid)
    code = 1
    try:
        ours.close()
        for descriptor in closing:
            os.close(descriptor)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        Office(theirs, batch_limit=batch_limit, lease_seconds=lease_seconds).run()
        code = 0
    except BaseException:
        logger.exception("the clerk's process failed")
    finally:
        logging.shutdown()
        # Not by way of the server's own exit handlers.
        os._exit(code)


class Office:
    """Takes orders from a socket, books them batch by batch, and reports."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        batch_limit: int,
        lease_seconds: float,
        clock: Clock = SYSTEM_CLOCK,
        database: str = "default",
    ) -> None:
        self._socket = connection
        self._batch_limit = batch_limit
        self._tick_seconds = lease_seconds / 3
        lease = WorkerLease(lease_us=int(lease_seconds * 1_000_000))
        self._context = BatchContext(clock=clock, lease=lease, read_catalogue=_read_prices)
        self._desk = Desk(self._context, self._note_results, database=database)
        self._frames = OrderReader()
        self._waiting: deque[Entry] = deque()
        self._results: list[Result] = []
        # What was reported last, without its results.
        self._reported = Report([], is_healthy=False, lease_id=0, generation=-1, health=None)
        self._stop_deadline: float | None = None
        self._is_orphaned = False
        self._is_asked = False

    def run(self) -> None:
        """Work until told to stop, or until the event loop has gone."""
        select.select([self._socket], [], [])
        self._read()
        if self._is_orphaned:
            return  # the server never came up
        while True:
            entries = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_limit))]
            self._desk.book(entries)
            self._report()
            if self._is_done():
                break
            self._gather()
        if self._context.lease.id:
            self._desk.release()
        self._desk.close()
        self._socket.close()

    def _gather(self) -> None:
        """Wait for a question (or the next tick) and take what has come with it."""
        if self._waiting or self._is_orphaned:
            if self._desk.unbooked:
                time.sleep(RETRY_SECONDS)
            self._read()
            return
        is_waiting = self._desk.unbooked or not self._desk.is_healthy
        patience = RETRY_SECONDS if is_waiting else self._tick_seconds
        if select.select([self._socket], [], [], patience)[0]:
            self._read()

    def _read(self) -> None:
        """Take in what has come, without waiting."""
        parts: list[bytes] = []
        is_lost = False
        # A short piece was the last one.
        while not self._is_orphaned and (not parts or len(parts[-1]) == _READ_BYTES):
            try:
                data = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                is_lost = True
                break
            parts.append(data)
        for orders in self._frames.feed(b"".join(parts)):
            self._take(orders)
        if is_lost:
            self._note_loss()

    def _take(self, orders: Orders) -> None:
        # Orders without a question ask how things stand.
        self._is_asked = self._is_asked or not orders.entries
        self._waiting.extend(orders.entries)
        for request_id in orders.abandoned:
            self._context.abandon(request_id)
        if orders.stop_seconds is not None:
            self._stop_deadline = time.monotonic() + orders.stop_seconds

    def _note_loss(self) -> None:
        """The event loop has gone, by kill -9 perhaps: book what it still told, and take nobody in for it."""
        self._is_orphaned = True
        self._stop_deadline = time.monotonic() + _LAST_BOOKINGS_SECONDS
        self._waiting = deque(entry for entry in self._waiting if not isinstance(entry.command, _FOR_CALLERS))

    def _is_done(self) -> bool:
        if self._stop_deadline is None or self._waiting:
            return False
        if self._desk.unbooked and time.monotonic() < self._stop_deadline:
            return False
        unbooked, self._desk.unbooked = self._desk.unbooked, []
        self._desk.turn_away(unbooked, "stopped without the database")
        self._report()
        return True

    def _note_results(self, results: list[Result]) -> None:
        self._results += results

    def _report(self) -> None:
        """Tell the results, and whatever has changed with them."""
        is_asked, self._is_asked = self._is_asked, False
        results, self._results = self._results, []
        context = self._context
        health = context.health
        now = Report([], self._desk.is_healthy, context.lease.id, context.catalogue.generation, health)
        if self._is_orphaned or not (results or is_asked or now != self._reported):
            return
        # The empty one that stands there before the first batch is nothing to tell.
        is_news = self._reported.health is not health and health.generation >= 0
        self._reported = now
        frame = write_report(now._replace(results=results, health=health if is_news else None))
        try:
            self._socket.sendall(frame)
        except OSError:
            # There is nobody to hear it; what was said before can still be read.
            self._read()
            self._note_loss()


def _read_prices(sql: Sql, _previous: Catalogue) -> Catalogue:
    """Return what a clerk needs of the catalogue: which one it is, and the prices of calls that nobody ends."""
    return Catalogue(generation=read_generation(sql), models={}, prices=read_price_book(sql))

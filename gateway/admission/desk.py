"""Where questions become batches and batches answers, whatever brings the one and carries off the other.

When the database fails, admissions are refused at once (fail closed) and settlements stay here until they are booked:
they are money that is owed.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.db import DatabaseError, InterfaceError, OperationalError, connections

from common.errors import InternalError
from common.sql import DurableTransaction, Sql
from gateway.admission.batch import run_batch
from gateway.admission.commands import Answer, Command, NoteFindings, Settle
from gateway.admission.context import BatchContext
from gateway.errors import AdmissionUnavailable

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5


class Entry(NamedTuple):
    """A question, and whatever its asker knows it by; None: nobody waits for the answer."""

    command: Command
    ticket: Any


class Result(NamedTuple):
    """What came of a question: its answer or its error."""

    ticket: Any
    answer: Answer | None
    error: Exception | None


class Desk:
    """Owns a connection to the database; all methods belong to one thread."""

    def __init__(
        self, context: BatchContext, deliver: Callable[[list[Result]], None], *, database: str = "default"
    ) -> None:
        """`deliver` takes the results of a batch to whoever asked."""
        self._context = context
        self._deliver = deliver
        self._connection = connections[database]
        # Settlements that the database has not taken yet.
        self.unbooked: list[Entry] = []
        self.is_healthy = False

    def book(self, entries: Sequence[Entry]) -> None:
        """Run one batch of what was left unbooked and of `entries`."""
        unbooked, self.unbooked = self.unbooked, []
        self._book([*unbooked, *entries])

    def turn_away(self, entries: Sequence[Entry], reason: str) -> None:
        """Answer that the clerk does not work any more."""
        self._give_back(entries, AdmissionUnavailable(internal_detail=reason), keep_settlements=False)

    def release(self) -> None:
        """Give up the lease."""
        try:
            with self._connection.wrap_database_errors, DurableTransaction(self._connection):
                self._context.lease.release(Sql(self._connection))
        except (OperationalError, InterfaceError) as error:
            logger.warning("the lease could not be released, it will run out: %s", error)

    def close(self) -> None:
        """Close the connection."""
        self.is_healthy = False
        self._connection.close()

    def _book(self, entries: Sequence[Entry]) -> None:
        """Run one batch and deliver its results; on failure refuse admissions and keep settlements."""
        try:
            answers = run_batch(self._connection, [e.command for e in entries], self._context)
        except (OperationalError, InterfaceError) as error:
            logger.warning("admission: the database failed: %s", error)
            self.is_healthy = False
            self._connection.close()
            self._give_back(entries, AdmissionUnavailable(internal_detail=str(error)), keep_settlements=True)
        except Exception as error:
            if len(entries) > 1:
                # One entry spoils the batch (a violated constraint, say): find it by running each alone.
                for entry in entries:
                    self._book([entry])
                return
            logger.exception("admission: a batch failed")
            if isinstance(error, DatabaseError):
                self._connection.close()
            self._give_back(entries, InternalError(internal_detail=repr(error)), keep_settlements=False)
        else:
            self.is_healthy = True
            self._deliver([Result(e.ticket, a, None) for e, a in zip(entries, answers, strict=True)])

    def _give_back(self, entries: Sequence[Entry], error: Exception, *, keep_settlements: bool) -> None:
        refused = []
        for entry in entries:
            if isinstance(entry.command, Settle | NoteFindings) and keep_settlements:
                self.unbooked.append(entry)
                continue
            if isinstance(entry.command, Settle):
                logger.critical("a settlement cannot be booked, its hold will expire: %s", entry.command)
            refused.append(Result(entry.ticket, None, error))
        self._deliver(refused)

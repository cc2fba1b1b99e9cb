"""The clerk as the event loop sees it: questions go in, futures of answers come out, snapshots stand by.

Where the answers are made is the matter of two kinds: `gateway.admission.clerk` (a thread of this process) and
`gateway.admission.remote` (a process of its own). Nothing here touches the database.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import overload

from common.clock import SYSTEM_CLOCK, Clock
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
from gateway.admission.desk import Entry, Result
from gateway.breakers import HealthBook
from gateway.catalogue import Catalogue
from gateway.errors import AdmissionUnavailable, ServerOverloaded


class ClerkFront(ABC):
    """Bound to the event loop that starts it; all methods belong to that loop."""

    def __init__(self, *, queue_limit: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._queue_limit = queue_limit
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    @abstractmethod
    def catalogue(self) -> Catalogue:
        """Return the catalogue that the last answer went by, or a later one."""

    @property
    @abstractmethod
    def health(self) -> HealthBook:
        """Return what all processes have found out of deployments, as of the last batch."""

    @property
    @abstractmethod
    def is_healthy(self) -> bool:
        """Return whether the last batch came through."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Return how many questions are queued."""

    @property
    def now_us(self) -> int:
        """Return the clerk's clock."""
        return self._clock.now_us()

    @abstractmethod
    async def start(self) -> None:
        """Wait for the first batch: lease taken, catalogue read.

        Raises AdmissionUnavailable when the database does not answer; starting again is safe then.
        """

    @abstractmethod
    async def stop(self, *, timeout_seconds: float) -> None:
        """Book what is queued, give up the lease, end."""

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
        if not self.is_running():
            raise AdmissionUnavailable(internal_detail="the clerk is not running")
        if not isinstance(command, Settle | NoteProgress) and self.waiting >= self._queue_limit:
            raise ServerOverloaded
        assert self._loop is not None, "the clerk has not been started"
        future: asyncio.Future[Answer] = self._loop.create_future()
        self.put(Entry(command, future))
        return future

    def note(self, command: Note | NoteBreaker | EndTrial) -> None:
        """Queue a note whose answer nobody awaits. Of refusals none beyond the queue's bound."""
        if isinstance(command, NoteRefusal) and self.waiting >= self._queue_limit:
            return
        self.put(Entry(command, None))

    @abstractmethod
    def is_running(self) -> bool:
        """Return whether questions are taken."""

    @abstractmethod
    def put(self, entry: Entry) -> None:
        """Hand over a question whose ticket is its future, or None where nobody waits."""

    @abstractmethod
    def abandon(self, request_id: str) -> None:
        """Let the hold of a call expire that nobody will settle."""

    def _set_results(self, results: Iterable[Result]) -> None:
        for future, answer, error in results:
            if future is None:
                continue
            if future.done():
                if isinstance(answer, Admitted):
                    # The caller left while it was being admitted.
                    self.abandon(answer.request_id)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer)

"""What the scripted upstream saw: every request, kept as a frozen value, and the requests held right now.

One condition guards all of it. The server's thread writes; any thread reads and waits. Waiting blocks the
calling thread, so async tests wrap it: `await asyncio.to_thread(upstream.wait_until_held)`.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from tests.upstream.behaviours import JsonObject

# Of both dialects.
CHAT_PATH_ENDS = ("/chat/completions", "/messages")


class Outcome(StrEnum):
    """How far the answer to a request got."""

    OPEN = "open"
    # Everything that the script wanted was sent.
    COMPLETED = "completed"
    # The script broke it off, or the upstream was stopped.
    CUT = "cut"
    # The client closed the connection first.
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """One request as the upstream saw it, at the moment of asking; read it again to see it progress."""

    # Counts from 1 over all paths; part of the answer's id.
    number: int
    method: str
    path: str
    query: str
    # Names in lower case.
    headers: Mapping[str, str]
    # None when the body is not a JSON object.
    body: JsonObject | None
    raw_body: bytes
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome = Outcome.OPEN
    # Whole events handed to the socket, `[DONE]` included; a body that is not a stream is one event.
    events_sent: int = 0

    @property
    def is_chat(self) -> bool:
        return self.path.endswith(CHAT_PATH_ENDS)

    @property
    def is_disconnected(self) -> bool:
        return self.outcome is Outcome.DISCONNECTED


Requests = tuple[RecordedRequest, ...]


class Journal:
    """Thread-safe record of requests and holds."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: dict[int, RecordedRequest] = {}
        self._releases: dict[int, Callable[[], None]] = {}
        self._last_number = 0

    def open_request(
        self,
        *,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: JsonObject | None,
        raw_body: bytes,
    ) -> RecordedRequest:
        """Record a request that has arrived whole."""
        with self._changed:
            self._last_number += 1
            request = RecordedRequest(
                number=self._last_number,
                method=method,
                path=path,
                query=query,
                headers=headers,
                body=body,
                raw_body=raw_body,
                started_at=datetime.now(UTC),
            )
            self._requests[request.number] = request
            self._changed.notify_all()
            return request

    def count_events(self, number: int, count: int) -> None:
        """Add events to a request. Wakes nobody: to wait for an event, hold the answer there."""
        with self._changed:
            # A reset may have forgotten requests that are still being answered.
            if request := self._requests.get(number):
                self._requests[number] = dataclasses.replace(request, events_sent=request.events_sent + count)

    def end_request(self, number: int, outcome: Outcome) -> None:
        """Record how a request ended. The first ending stands: the close after a cut is no disconnect."""
        with self._changed:
            request = self._requests.get(number)
            if request and request.outcome is Outcome.OPEN:
                self._requests[number] = dataclasses.replace(request, outcome=outcome, ended_at=datetime.now(UTC))
                self._changed.notify_all()

    def end_all(self, outcome: Outcome) -> None:
        """End every request that is still open."""
        for request in self.read_all():
            self.end_request(request.number, outcome)

    def hold(self, number: int, release: Callable[[], None]) -> None:
        """Note that a request is held; `release` will be called from the thread that releases."""
        with self._changed:
            self._releases[number] = release
            self._changed.notify_all()

    def drop_hold(self, number: int) -> None:
        """Note that a request is held no more. Safe to repeat."""
        with self._changed:
            self._releases.pop(number, None)

    def release(self) -> int:
        """Let all requests that are held now go on, and return how many; later ones hold as scripted."""
        with self._changed:
            releases = list(self._releases.values())
            self._releases.clear()
            for release in releases:
                release()
            return len(releases)

    def reset(self) -> None:
        """Forget all requests; numbers go on counting."""
        with self._changed:
            self._requests.clear()

    def read_all(self) -> Requests:
        """Return all requests on any path in order of arrival."""
        with self._changed:
            return tuple(self._requests.values())

    def read_chats(self) -> Requests:
        """Return the chat completion requests in order of arrival."""
        return tuple(request for request in self.read_all() if request.is_chat)

    def read_held(self) -> Requests:
        """Return the requests held right now."""
        with self._changed:
            return tuple(self._requests[number] for number in self._releases if number in self._requests)

    def wait_for(self, read: Callable[[], Requests], *, n: int, timeout_seconds: float, what: str) -> Requests:
        """Wait until `read` returns at least n requests and return them.

        Raises TimeoutError that tells what had arrived, since that is what one asks next.
        """
        # Condition locks are re-entrant, so `read` may take the lock again.
        with self._changed:
            if self._changed.wait_for(lambda: len(read()) >= n, timeout_seconds):
                return read()
            seen = ", ".join(f"{r.path} {r.outcome} after {r.events_sent}" for r in self.read_all()) or "nothing"
            raise TimeoutError(f"waited {timeout_seconds} s for {n} {what}, have {len(read())}; seen: {seen}")

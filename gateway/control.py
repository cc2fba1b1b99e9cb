"""What may stop a call in flight: its deadlines, its client, its server. One object a call.

The upstream part of a call runs inside `interruptible()`; only there may its task be cancelled, so that admission and
settlement are never torn. A deadline is an attribute: the runtime looks at all calls a few times a second, which is
exact enough for deadlines of seconds and costs a call no timer.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

_NEVER = float("inf")


class StopReason(StrEnum):
    """Why a call was stopped from outside."""

    CLIENT_LEFT = "client_left"
    CLIENT_CANCELLED = "client_cancelled"
    CLIENT_STALLED = "client_stalled"
    SERVER_STOPPING = "server_stopping"


class CallStopped(Exception):
    """The call was stopped while it was with its upstream."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class DeadlinePassed(Exception):
    """A deadline passed; `phase` names what was waited for."""

    def __init__(self, phase: str) -> None:
        super().__init__(phase)
        self.phase = phase


class CallControl:
    """Stops one call's task at the right moments. All methods run in the event loop."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.is_client_gone = False
        # Set once the upstream is known: False means that it bills a broken-off call whole, so it is read to its end.
        self.stops_when_client_leaves = True
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._deadline = _NEVER
        self._last_deadline = _NEVER
        self._phase = ""
        self._is_late = False

    def client_left(self) -> None:
        """Note that nobody listens any more, and stop the call where that saves money."""
        self.is_client_gone = True
        if self.stops_when_client_leaves:
            self.stop(StopReason.CLIENT_LEFT)

    def stop(self, reason: StopReason) -> None:
        """End the upstream part of the call now, or as soon as it begins."""
        if self.reason is None:
            self.reason = reason
            if self._task is not None:
                self._task.cancel()

    def expect(self, phase: str, within_seconds: float) -> None:
        """Set the deadline of what is waited for next, replacing the one before; never beyond the whole call's."""
        self._phase = phase
        self._deadline = min(self._loop.time() + within_seconds, self._last_deadline)

    def expect_end(self, within_seconds: float) -> None:
        """Set the deadline of the whole upstream part."""
        self._last_deadline = self._loop.time() + within_seconds

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the body be stopped: raises CallStopped or DeadlinePassed in place of the cancellation."""
        task = asyncio.current_task()
        assert task is not None
        if self.reason is not None:
            raise CallStopped(self.reason)
        self._task = task
        try:
            yield
        except asyncio.CancelledError:
            task.uncancel()
            if self._is_late and self.reason is None:
                raise DeadlinePassed(self._phase) from None
            # Cancelled by nobody we know: the event loop is being torn down.
            reason: StopReason | None = self.reason
            raise CallStopped(reason or StopReason.SERVER_STOPPING) from None
        finally:
            self._task = None
            self._deadline = _NEVER

    def check_deadline(self, now: float) -> None:
        """End the wait whose deadline has passed; `now` is the event loop's time."""
        if now >= self._deadline and self._task is not None:
            self._is_late = True
            self._deadline = _NEVER
            self._task.cancel()

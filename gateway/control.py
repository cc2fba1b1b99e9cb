"""What may stop a call in flight: its deadlines, its client, its server. One object a call.

The upstream part of a call runs inside `interruptible()`; only there may its task be stopped, so that admission and
settlement are never torn. A deadline is an attribute: the runtime looks at all calls a few times a second, which is
exact enough for deadlines of seconds and costs a call no timer (`asyncio.timeout` costs 6 us each time it is entered).
"""

import asyncio
from enum import StrEnum
from types import TracebackType
from typing import Any

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

    # What stands here is what most calls never change.
    reason: StopReason | None = None
    is_client_gone = False
    # Set once the upstream is known: False means that it bills a broken-off call whole, so it is read to its end.
    stops_when_client_leaves = True
    # Somebody may come back for its stream (`gateway.streams`): a connection that ends says nothing.
    outlives_client = False
    # The call's task, from its first step on; cancelled only while one of the bounds below is entered.
    _task: asyncio.Task[Any] | None = None
    _bound: "_Bound | None" = None
    _deadline = _NEVER
    _last_deadline = _NEVER
    _phase = ""
    _awaited: asyncio.Future[Any] | None = None
    _answer_deadline = _NEVER

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def begin(self, task: "asyncio.Task[Any]") -> None:
        """Name the task that carries the call out."""
        self._task = task

    def client_left(self) -> None:
        """Note that nobody listens any more, and stop the call where that saves money."""
        if self.outlives_client:
            return
        self.is_client_gone = True
        if self.stops_when_client_leaves:
            self.stop(StopReason.CLIENT_LEFT)

    def stop(self, reason: StopReason) -> None:
        """End the upstream part of the call now, or as soon as it begins."""
        if self.reason is None:
            self.reason = reason
            if self._bound is not None and self._bound.is_stoppable:
                self._cancel()

    def expect(self, phase: str, within_seconds: float) -> None:
        """Set the deadline of what is waited for next, replacing the one before; never beyond the whole call's."""
        self._phase = phase
        self._deadline = min(self._loop.time() + within_seconds, self._last_deadline)

    def expect_end(self, within_seconds: float) -> None:
        """Set the deadline of the whole upstream part."""
        self._last_deadline = self._loop.time() + within_seconds

    def interruptible(self) -> "_Bound":
        """Let the body be stopped: raises CallStopped or DeadlinePassed in place of the cancellation."""
        return _Bound(self, is_stoppable=True)

    def within(self, phase: str, seconds: float) -> "_Bound":
        """Bound the body in time, without letting it be stopped otherwise: raises DeadlinePassed."""
        self._last_deadline = _NEVER
        self.expect(phase, seconds)
        return _Bound(self, is_stoppable=False)

    def fail_late(self, future: "asyncio.Future[Any]", within_seconds: float) -> None:
        """Let `future` raise TimeoutError in whoever awaits it, unless it has its answer by then."""
        self._awaited = future
        self._answer_deadline = self._loop.time() + within_seconds

    def check_deadline(self, now: float) -> None:
        """End the wait whose deadline has passed; `now` is the event loop's time."""
        if now >= self._deadline and self._bound is not None:
            self._bound.is_late = True
            self._deadline = _NEVER
            self._cancel()
        if now >= self._answer_deadline and self._awaited is not None:
            self._answer_deadline = _NEVER
            if not self._awaited.done():
                self._awaited.set_exception(TimeoutError())

    def enter(self, bound: "_Bound") -> None:
        """Begin a bounded part."""
        if bound.is_stoppable and self.reason is not None:
            raise CallStopped(self.reason)
        self._bound = bound

    def leave(self) -> None:
        """End a bounded part."""
        self._bound = None
        self._deadline = _NEVER

    def explain(self, bound: "_Bound") -> None:
        """Raise what a cancellation inside a bounded part stands for; return where it is not one of ours."""
        assert self._task is not None
        if bound.is_late and (self.reason is None or not bound.is_stoppable):
            self._task.uncancel()
            raise DeadlinePassed(self._phase) from None
        if bound.is_stoppable:
            self._task.uncancel()
            # Without a reason it was cancelled by nobody we know: the event loop is being torn down.
            raise CallStopped(self.reason or StopReason.SERVER_STOPPING) from None

    def _cancel(self) -> None:
        assert self._task is not None, "the call has no task yet"
        self._task.cancel()


class _Bound:
    """A part of a call that may be cancelled. A class: entering a generator-based manager costs three times as much."""

    __slots__ = ("_control", "is_late", "is_stoppable")

    def __init__(self, control: CallControl, *, is_stoppable: bool) -> None:
        self._control = control
        self.is_stoppable = is_stoppable
        self.is_late = False

    def __enter__(self) -> None:
        self._control.enter(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.leave()
        if isinstance(error, asyncio.CancelledError):
            self._control.explain(self)

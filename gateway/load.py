"""How strained this process and its upstreams are, and whose calls wait outside because of it.

Pressure is a number from 0 (idle) to 1 (nothing more fits): the fullest of the admission queue, the calls in flight and
the strain of the upstreams that a call could go to. Each priority class has a threshold; a call of a class whose
threshold is passed is refused before admission, with the time after which the pressure will have fallen. Everything
decays with a half-life, so limits relax by themselves, whether or not calls come.

Strain is judged per process: each sees its own share of the calls, and no two have to agree.
"""

import math
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

HALF_LIFE_SECONDS = 10.0
# What is usual for an upstream moves so slowly that an hour of trouble does not become the norm.
_USUAL_HALF_LIFE_SECONDS = 600.0
# Weights decay in steps: of what happens within one, nothing is older than the rest.
_RESOLUTION_SECONDS = 0.01
# So many calls of weight must have been seen before their share of errors counts half.
_PRIOR_CALLS = 5.0
# Errors: one in twenty is life, two in five are an outage. Latency: twice the usual is life, six times is an outage.
_ERRORS_FROM, _ERRORS_TO = 0.05, 0.4
_SLOWER_FROM, _SLOWER_TO = 2.0, 6.0
# However bad an upstream is, the first class may try it: whether it is called at all is for routing to say.
_MOST_STRAIN = 0.95
_LONGEST_RETRY_SECONDS = 60


class Priority(IntEnum):
    """Who goes first when not all can: interactive before batch, paid before free."""

    FREE_BATCH = 0
    PAID_BATCH = 1
    FREE_INTERACTIVE = 2
    PAID_INTERACTIVE = 3


# The pressure at which a class is no longer admitted. The first is refused by the hard bounds only.
THRESHOLDS = {
    Priority.FREE_BATCH: 0.4,
    Priority.PAID_BATCH: 0.55,
    Priority.FREE_INTERACTIVE: 0.7,
    Priority.PAID_INTERACTIVE: 1.0,
}


def priority_of(*, is_paid: bool, is_batch: bool) -> Priority:
    """Return the class of a call."""
    if is_batch:
        return Priority.PAID_BATCH if is_paid else Priority.FREE_BATCH
    return Priority.PAID_INTERACTIVE if is_paid else Priority.FREE_INTERACTIVE


class Strain:
    """What one upstream's last minute looked like: decaying weights, a few additions a call. Times are in seconds."""

    __slots__ = ("_at", "_calls", "_failed", "_seconds", "_usual_calls", "_usual_seconds")

    def __init__(self, now: float) -> None:
        self._at = now
        self._calls = self._failed = self._seconds = 0.0
        self._usual_calls = self._usual_seconds = 0.0

    def note(self, now: float, *, has_failed: bool, seconds: float | None) -> None:
        """Take one attempt in.

        `seconds` measures its speed: of a stream the time to the first token, of a whole answer the time a token;
        None where there was no answer.
        """
        self._decay(now)
        self._calls += 1
        if has_failed:
            self._failed += 1
        if seconds is not None:
            # Averages, weighted by how many calls the present weight stands for.
            weight = max(1.0, self._calls - self._failed)
            self._seconds += (seconds - self._seconds) / weight
            self._usual_calls += 1
            self._usual_seconds += (seconds - self._usual_seconds) / self._usual_calls

    def read(self, now: float) -> float:
        """Return the strain, 0 to 1."""
        self._decay(now)
        if self._calls < 1:
            return 0.0
        if not self._failed and self._seconds <= _SLOWER_FROM * self._usual_seconds:
            return 0.0  # as it should be, and nearly always is
        errors = _scaled(self._failed / (self._calls + _PRIOR_CALLS), _ERRORS_FROM, _ERRORS_TO)
        if not self._usual_seconds:
            return min(_MOST_STRAIN, errors)
        slower = _scaled(self._seconds / self._usual_seconds, _SLOWER_FROM, _SLOWER_TO)
        # One slow call is chance; the weight of the calls behind the figure says how much it is worth.
        return min(_MOST_STRAIN, max(errors, slower * self._calls / (self._calls + _PRIOR_CALLS)))

    def _decay(self, now: float) -> None:
        elapsed = now - self._at
        if elapsed < _RESOLUTION_SECONDS:
            return
        self._at = now
        left = 0.5 ** (elapsed / HALF_LIFE_SECONDS)
        self._calls *= left
        self._failed *= left
        self._usual_calls *= 0.5 ** (elapsed / _USUAL_HALF_LIFE_SECONDS)


class Pressure(NamedTuple):
    """How full this process is for a call, and with what: "queue", "calls" or "upstream"."""

    value: float
    cause: str


class Shed(NamedTuple):
    """A call has to wait outside."""

    priority: Priority
    pressure: Pressure
    retry_after_seconds: int


class LoadMeter:
    """This process's pressure. All methods belong to the event loop; `now` is its monotonic time in seconds."""

    def __init__(self, *, queue_limit: int, calls_limit: int) -> None:
        self._queue_limit = queue_limit
        self._calls_limit = calls_limit
        # By upstream and whether the call streams: a whole answer takes longer than a first token.
        self._strains: dict[tuple[str, bool], Strain] = {}

    def note_attempt(
        self, now: float, *, upstream: str, is_stream: bool, has_failed: bool, seconds: float | None
    ) -> None:
        """Take in how an upstream answered."""
        strain = self._strains.get((upstream, is_stream))
        if strain is None:
            strain = self._strains[upstream, is_stream] = Strain(now)
        strain.note(now, has_failed=has_failed, seconds=seconds)

    def read(self, now: float, *, waiting: int, calls: int, upstreams: Iterable[str]) -> Pressure:
        """Return the pressure on a call that could go to any of `upstreams`: it would go to the least strained."""
        value, cause = min((self.strain_of(now, name) for name in upstreams), default=0.0), "upstream"
        if waiting > value * self._queue_limit:
            value, cause = waiting / self._queue_limit, "queue"
        if calls > value * self._calls_limit:
            value, cause = calls / self._calls_limit, "calls"
        return Pressure(value, cause)

    def strain_of(self, now: float, upstream: str) -> float:
        """Return an upstream's strain, 0 to 1."""
        whole, streamed = self._strains.get((upstream, False)), self._strains.get((upstream, True))
        return max(whole.read(now) if whole else 0.0, streamed.read(now) if streamed else 0.0)


def find_shed(priority: Priority, pressure: Pressure) -> Shed | None:
    """Return why a call of `priority` must wait, or None when it may go on."""
    threshold = THRESHOLDS[priority]
    if pressure.value < threshold:
        return None
    # Pressure halves in each half-life unless the strain goes on.
    wait = HALF_LIFE_SECONDS * math.log2(pressure.value / threshold)
    return Shed(priority, pressure, min(_LONGEST_RETRY_SECONDS, 1 + math.ceil(wait)))


def _scaled(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))

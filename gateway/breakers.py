"""Which deployments rest, and for how long: one breaker each, shared by all processes.

Closed: calls pass. Failures add to a score, answers take from it, and time wears it off; past a bound the breaker opens
and the deployment rests. After its rest one call at a time tries it (half-open), of all processes' calls the one that
claims the trial first in the database: an answer closes the breaker, a failure opens it for twice as long. A provider
that limits our calls and says for how long rests exactly that long, and is simply called again then.

A process decides by what it has seen itself, and tells the others by a row that is written when a state changes, never
else (`gateway.breaker_rows`); it learns of theirs with the next batch of its clerk. Of two states the later one counts.
On the happy path nothing is kept and nothing is written: a look into an empty dict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import NamedTuple, Protocol

from gateway.models import BreakerReason

_HALF_LIFE_US = 30_000_000
# An answer makes up for half a failure: what fails one call in three or more gets there in the end.
_ANSWER_COUNTS = 0.5
_LONGEST_REST_US = 300_000_000
# A trial that is never heard of again (its process died, say) must not keep the others out.
_TRIAL_US = 60_000_000
# Of the quickest: figures older than this are forgotten, so that who was slow once is tried again.
_LATENCY_KEPT_US = 300_000_000


class BreakerState(NamedTuple):
    """What processes tell each other of a deployment."""

    deployment_id: int
    is_open: bool
    reason: str
    error_code: str
    trips: int
    until_us: int
    changed_us: int
    # Until when a call may take to find out whether it answers again; 0: none is at it.
    trial_until_us: int = 0


class Passage(Enum):
    """Whether a call may go to a deployment."""

    FREE = auto()
    # It rests, or another call is finding out whether it answers again.
    BARRED = auto()
    # This call would find out, once it has claimed that before all others.
    TRIAL = auto()


Book = Mapping[int, BreakerState]
EMPTY_BOOK: Book = MappingProxyType({})


class HealthBook(NamedTuple):
    """The states of one generation, as read by the clerk."""

    generation: int = -1
    states: Book = EMPTY_BOOK


class Standing(Protocol):
    """What routing asks of health."""

    def resting_until_us(self, deployment_id: int, now_us: int) -> int:
        """Return until when a deployment is not to be called; 0: it may be."""

    def latency_of(self, deployment_id: int, now_us: int) -> float | None:
        """Return how long a deployment took to its first token lately, in seconds."""


class BookStanding:
    """The health that is in the database, for who plans a call without making it. Nobody's latency is known."""

    def __init__(self, book: HealthBook) -> None:
        self._states = book.states

    def resting_until_us(self, deployment_id: int, now_us: int) -> int:
        """Return until when a deployment is not to be called; 0: it may be."""
        state = self._states.get(deployment_id)
        return state.until_us if state is not None and state.is_open and now_us < state.until_us else 0

    def latency_of(self, deployment_id: int, now_us: int) -> float | None:
        """Return None."""
        return None


@dataclass(slots=True)
class _Score:
    value: float
    at_us: int


@dataclass(slots=True)
class _Latency:
    seconds: float
    at_us: int


class Breakers:
    """All breakers as one process knows them. All methods belong to its event loop; moments are the clerk's clock."""

    def __init__(self, *, failures: int, rest_seconds: float) -> None:
        self._failures = failures
        self._rest_us = int(rest_seconds * 1_000_000)
        # Only what is open, or was and may have to be told apart from an older state.
        self._states: dict[int, BreakerState] = {}
        self._scores: dict[int, _Score] = {}
        # Of open ones: until when some call is trying it, here or elsewhere, as far as it is known here.
        self._trials: dict[int, int] = {}
        self._latencies: dict[int, _Latency] = {}
        self._seen: HealthBook | None = None

    def take_in(self, book: HealthBook) -> None:
        """Learn what other processes have found out, if there is anything new."""
        if book is self._seen:
            return
        self._seen = book
        for deployment_id, state in book.states.items():
            known = self._states.get(deployment_id)
            if known is not None and known.changed_us > state.changed_us:
                continue
            if known is None or known.changed_us < state.changed_us:
                self._states[deployment_id] = state
                self._scores.pop(deployment_id, None)
            # Should the book be older than a claim of ours, the database refuses a second one.
            self._trials.pop(deployment_id, None)
            if state.trial_until_us:
                self._trials[deployment_id] = state.trial_until_us

    def resting_until_us(self, deployment_id: int, now_us: int) -> int:
        """Return until when a deployment is not to be called; 0: it may be."""
        state = self._states.get(deployment_id)
        if state is None or not state.is_open:
            return 0
        if now_us < state.until_us:
            return state.until_us
        return self._trials.get(deployment_id, 0) if self._is_tried(deployment_id, now_us) else 0

    def is_closed(self, deployment_id: int) -> bool:
        """Return whether a deployment may be called without finding out first whether it answers again."""
        state = self._states.get(deployment_id)
        return state is None or not state.is_open

    def begin(self, deployment_id: int, now_us: int) -> Passage:
        """Return whether a call may go to a deployment; a trial is this process's until it ends."""
        state = self._states.get(deployment_id)
        if state is None or not state.is_open:
            return Passage.FREE
        if now_us < state.until_us or self._is_tried(deployment_id, now_us):
            return Passage.BARRED
        if state.reason == BreakerReason.RATE_LIMITED:
            return Passage.FREE
        self._trials[deployment_id] = now_us + _TRIAL_US
        return Passage.TRIAL

    def trial_of(self, deployment_id: int) -> BreakerState:
        """Return the state of a deployment that `begin` let be tried, with until when the trial may take."""
        return self._states[deployment_id]._replace(trial_until_us=self._trials[deployment_id])

    def note_trial_elsewhere(self, deployment_id: int, until_us: int) -> None:
        """Note that another process claimed the trial first."""
        self._trials[deployment_id] = until_us

    def leave(self, deployment_id: int) -> None:
        """Note that a trial ended without telling anything about the deployment: another call may find out."""
        self._trials.pop(deployment_id, None)

    def note_answer(self, deployment_id: int, now_us: int) -> BreakerState | None:
        """Note that a deployment answered; return its new state where that changed."""
        score = self._scores.get(deployment_id)
        if score is not None:
            score.value = self._worn(score, now_us) - _ANSWER_COUNTS
            score.at_us = now_us
            if score.value <= 0:
                del self._scores[deployment_id]
        state = self._states.get(deployment_id)
        # What began before the breaker opened may still end well: that is no news.
        if state is None or not state.is_open or now_us < state.until_us:
            return None
        self._trials.pop(deployment_id, None)
        if state.reason == BreakerReason.RATE_LIMITED:
            # Its rest is over, by the clock of every process alike: nothing to tell.
            self._states[deployment_id] = state._replace(is_open=False)
            return None
        return self._change(state._replace(is_open=False, reason=BreakerReason.RECOVERED.value, trips=0), now_us)

    def note_failure(
        self, deployment_id: int, now_us: int, *, error_code: str, asked_seconds: int | None = None
    ) -> BreakerState | None:
        """Note that a deployment failed; return its new state where that changed.

        `asked_seconds` is how long a provider asked not to be called.
        """
        state = self._states.get(deployment_id)
        if asked_seconds:
            until_us = now_us + asked_seconds * 1_000_000
            if state is not None and state.is_open and state.until_us >= until_us - 1_000_000:
                return None
            trips = state.trips if state is not None else 0
            self._trials.pop(deployment_id, None)
            return self._open(deployment_id, now_us, BreakerReason.RATE_LIMITED, error_code, trips, until_us)
        if state is not None and state.is_open and state.reason != BreakerReason.RATE_LIMITED:
            if now_us < state.until_us:
                return None
            # The trial failed.
            self._trials.pop(deployment_id, None)
            return self._trip(deployment_id, now_us, error_code, state.trips + 1)
        score = self._scores.setdefault(deployment_id, _Score(0.0, now_us))
        score.value = self._worn(score, now_us) + 1
        score.at_us = now_us
        # A little less: time wears off a part of the first failure before the last one comes.
        if score.value < self._failures - 0.5:
            return None
        del self._scores[deployment_id]
        return self._trip(deployment_id, now_us, error_code, 1)

    def note_latency(self, deployment_id: int, now_us: int, seconds: float) -> None:
        """Take in the time to a first token, for models that are routed by it."""
        known = self._latencies.get(deployment_id)
        if known is None or now_us - known.at_us > _LATENCY_KEPT_US:
            self._latencies[deployment_id] = _Latency(seconds, now_us)
            return
        known.seconds += (seconds - known.seconds) * 0.2
        known.at_us = now_us

    def latency_of(self, deployment_id: int, now_us: int) -> float | None:
        """Return how long a deployment took to its first token lately, in seconds."""
        known = self._latencies.get(deployment_id)
        return None if known is None or now_us - known.at_us > _LATENCY_KEPT_US else known.seconds

    def _is_tried(self, deployment_id: int, now_us: int) -> bool:
        return self._trials.get(deployment_id, 0) > now_us

    def _worn(self, score: _Score, now_us: int) -> float:
        return float(score.value * 0.5 ** (max(0, now_us - score.at_us) / _HALF_LIFE_US))

    def _trip(self, deployment_id: int, now_us: int, error_code: str, trips: int) -> BreakerState:
        rest_us = min(_LONGEST_REST_US, self._rest_us * 2 ** min(trips - 1, 10))
        return self._open(deployment_id, now_us, BreakerReason.FAILURES, error_code, trips, now_us + rest_us)

    def _open(  # noqa: PLR0917 - the fields of a state
        self, deployment_id: int, now_us: int, reason: BreakerReason, error_code: str, trips: int, until_us: int
    ) -> BreakerState:
        state = BreakerState(
            deployment_id=deployment_id,
            is_open=True,
            reason=reason.value,
            error_code=error_code,
            trips=trips,
            until_us=until_us,
            changed_us=now_us,
        )
        return self._change(state, now_us)

    def _change(self, state: BreakerState, now_us: int) -> BreakerState:
        known = self._states.get(state.deployment_id)
        changed_us = now_us if known is None else max(now_us, known.changed_us + 1)
        self._states[state.deployment_id] = state = state._replace(changed_us=changed_us, trial_until_us=0)
        return state

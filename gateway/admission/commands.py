"""What the request path may ask of the clerk, and what it answers. All values are frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from billing.journal import NewUsage
from common.errors import TollkeeperError
from gateway.attempt_rows import NewAttempt
from gateway.breakers import BreakerState
from gateway.guard_rows import CallFindings
from gateway.idempotency import Claim, StoredAnswer
from gateway.refusals import NewRefusal
from keys.limit_values import EndpointClass
from keys.limits import LimitReading, Marks
from keys.principals import Principal

# Of each owner of the call's limits, in their order; empty: not known, no tokens come back.
OwnerMarks = tuple[Marks, ...]
NO_MARKS: OwnerMarks = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FindPrincipal:
    """Who owns a key with one of these hashes? Or, where the platform itself calls: which key of a line works?"""

    hashes: tuple[str, ...] = ()
    # The first key of the line.
    line_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPrincipal:
    """The owner, or None; an inactive one is returned as it is."""

    principal: Principal | None


class Admit(NamedTuple):
    """May this call run? Everything here is an upper bound, computed from frozen snapshots."""

    request_id: str
    principal: Principal
    catalogue_generation: int
    amount_nanousd: int
    input_tokens: int
    output_tokens: int
    # How long the call may take at the very most.
    lifetime_us: int
    # JSON of what is known of the usage record, see `gateway.admission.expiry`.
    draft: str
    client_address: str | None = None
    # The call's Idempotency-Key, if it has one.
    claim: Claim | None = None
    # Whose rates it takes from.
    endpoint_class: str = EndpointClass.CHAT
    # What a key that has not called before is pinned to; empty: it has called.
    pin: str = ""
    # For the record of a refusal.
    operation: str = ""
    model: str = ""


class Admitted(NamedTuple):
    """Yes: places in all limits are taken and the money is held."""

    request_id: str
    started_us: int
    amount_nanousd: int
    available_nanousd: int
    limits: Sequence[LimitReading]
    # Where the call stands in the buckets of its owners; its settlement brings them back.
    marks: OwnerMarks = NO_MARKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Not again: the call with this Idempotency-Key has ended, and this was its answer. Nothing was taken."""

    answer: StoredAnswer
    available_nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No, and nothing was taken."""

    error: TollkeeperError
    limits: tuple[LimitReading, ...] = ()
    # Every limit that was looked at, of all owners, for the record.
    checked: tuple[LimitReading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Not decided: key, customer, plan or catalogue changed since the snapshots were taken. Ask again with fresh ones.

    `principal` is the row as it is now; None: the key is gone.
    """

    principal: Principal | None


class Settle(NamedTuple):
    """A call has ended: book its usage and resolve its hold, once."""

    usage: NewUsage
    principal: Principal
    # The call had an Idempotency-Key: keep its answer, or (without one) let the key be used again.
    has_claim: bool = False
    answer: StoredAnswer | None = None
    marks: OwnerMarks = NO_MARKS
    endpoint_class: str = EndpointClass.CHAT
    # Of a call that failed, or needed several.
    attempts: tuple[NewAttempt, ...] = ()
    # Of content rules; None: they found nothing, or there are none.
    findings: CallFindings | None = None


class Reuse(NamedTuple):
    """May this call have an answer that is known already? If so it is booked at once: nothing is open afterwards.

    `admit` asks for what the answer costs and for no tokens; `usage` lacks only its moment.
    """

    admit: Admit
    usage: NewUsage
    # Kept for repeats, where the call has an Idempotency-Key.
    answer: StoredAnswer | None = None


class Reused(NamedTuple):
    """Yes, and the usage record is durable."""

    charged_nanousd: int
    available_nanousd: int
    limits: Sequence[LimitReading]


class Settled(NamedTuple):
    """The usage record is durable."""

    charged_nanousd: int
    available_nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteProgress:
    """A stream has relayed so many output tokens: what an expiry would charge if this process died now."""

    request_id: str
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRefusal:
    """A call of a known key was refused before admission was asked: keep it for whoever asks why."""

    refusal: NewRefusal


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteFindings:
    """Content rules found something in a call that was refused; kept like a settlement while the database is away."""

    findings: CallFindings


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteBreaker:
    """A deployment rests now, or no longer: the other processes are to know."""

    state: BreakerState

    @property
    def deployment_id(self) -> int:
        """Return whose breaker it is."""
        return self.state.deployment_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTrial:
    """The rest of a deployment is over: may a call of this process find out whether it answers again?"""

    state: BreakerState

    @property
    def deployment_id(self) -> int:
        """Return whose breaker it is."""
        return self.state.deployment_id


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialClaimed:
    """Until when the trial may take that was there first, or the rest that has begun anew; 0: calls pass again."""

    until_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTrial:
    """The trial that may take until then has told nothing: somebody else may find out."""

    deployment_id: int
    until_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """The note is stored."""


Note = NoteProgress | NoteRefusal | NoteFindings
Command = FindPrincipal | Admit | Reuse | Settle | Note | NoteBreaker | ClaimTrial | EndTrial
Answer = FoundPrincipal | Admitted | Reused | Replayed | Refused | Stale | Settled | TrialClaimed | Noted

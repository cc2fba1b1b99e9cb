"""What the request path may ask of the clerk, and what it answers. All values are frozen."""

from dataclasses import dataclass

from billing.journal import NewUsage
from common.errors import TollkeeperError
from keys.limits import LimitReading
from keys.principals import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class FindPrincipal:
    """Who owns a key with one of these hashes?"""

    hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPrincipal:
    """The owner, or None; an inactive one is returned as it is."""

    principal: Principal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Yes: places in all limits are taken and the money is held."""

    request_id: str
    started_us: int
    amount_nanousd: int
    available_nanousd: int
    limits: tuple[LimitReading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No, and nothing was taken."""

    error: TollkeeperError
    limits: tuple[LimitReading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Not decided: key, customer, plan or catalogue changed since the snapshots were taken. Ask again with fresh ones.

    `principal` is the row as it is now; None: the key is gone.
    """

    principal: Principal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """A call has ended: book its usage and resolve its hold, once."""

    usage: NewUsage
    principal: Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The usage record is durable."""

    charged_nanousd: int
    available_nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteProgress:
    """A stream has relayed so many output tokens: what an expiry would charge if this process died now."""

    request_id: str
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """The progress is stored."""


Command = FindPrincipal | Admit | Settle | NoteProgress
Answer = FoundPrincipal | Admitted | Refused | Stale | Settled | Noted

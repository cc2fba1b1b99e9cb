"""One call on its way: what the customer sent, what the stages found out, and how it ended."""

from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Any

from billing.pricing import Price
from billing.tokens import NO_TOKENS, TokenCounts
from common.ids import make_id
from gateway.admission.commands import Admitted
from gateway.catalogue import DeploymentEntry, ModelEntry
from gateway.chat.counting import InputCount
from gateway.operations import Operation
from keys.limits import LimitReading
from keys.principals import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """A chat completion's canonical form; `body` is the validated JSON as it was sent."""

    model: str
    body: dict[str, Any]
    is_stream: bool
    # The client asked for the usage chunk at the end of its stream.
    wants_usage: bool
    choices: int
    # None: the model's default applies, and is sent upstream.
    max_output_tokens: int | None
    max_output_parameter: str
    end_user: str
    # JSON object of strings.
    tags: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where a call may go and what it can cost there."""

    model: ModelEntry
    deployments: tuple[DeploymentEntry, ...]
    price: Price
    catalogue_generation: int
    # Upper bounds: the input as counted with the model's factor, the output of all choices together.
    input_tokens: int
    output_tokens_per_choice: int
    output_tokens: int
    amount_nanousd: int
    lifetime_us: int


class Ending(StrEnum):
    """How the upstream's part of a call ended; the values are those of `billing.UsageStatus`."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a settled call tells its caller."""

    request_id: str
    model: str
    upstream: str
    tokens: TokenCounts = NO_TOKENS
    is_estimated: bool = False
    charged_nanousd: int = 0
    available_nanousd: int = 0
    upstream_ms: float = 0
    ttft_ms: float | None = None
    total_ms: float = 0
    overhead_ms: float = 0


@dataclass(slots=True, kw_only=True)
class Exchange:
    """The record of one call; each stage fills in its part. Lives in one task."""

    operation: Operation
    token: str
    raw_body: bytes
    # On the WebSocket every call streams, whatever its body says.
    always_streams: bool = False
    client_address: str | None = None
    request_id: str = field(default_factory=lambda: make_id("req"))
    started: float = field(default_factory=perf_counter)
    # -- authenticate
    principal: Principal | None = None
    principal_is_cached: bool = False
    # -- parse
    call: ChatCall | None = None
    input_count: InputCount | None = None
    # -- resolve
    plan: Plan | None = None
    # -- admit
    admitted: Admitted | None = None
    limits: tuple[LimitReading, ...] = ()
    # -- call
    deployment: DeploymentEntry | None = None
    sent: float = 0
    first_token: float = 0
    ended: float = 0

"""One call on its way: what the customer sent, what the stages found out, and how it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Any, NamedTuple

from billing.pricing import Price
from billing.tokens import NO_TOKENS, TokenCounts
from common.ids import make_id
from gateway.admission.commands import Admitted, Replayed, Reused
from gateway.caching.entries import CachedAnswer
from gateway.catalogue import DeploymentEntry, ModelEntry
from gateway.chat.counting import InputCount
from gateway.guard_rows import Counted
from gateway.guards.screening import Screening
from gateway.idempotency import Claim
from gateway.operations import Operation
from gateway.prompt_requests import PromptRequest
from gateway.quality import NO_QUALITY, Quality
from gateway.routing import NO_WISH, RouteWish
from gateway.streams.buffer import KeptStream
from gateway.structured.contracts import OutputContract
from gateway.versions import OlderShape
from keys.limits import LimitReading
from keys.principals import Principal
from prompts.json_values import JsonValue


class ChatCall(NamedTuple):
    """A chat completion's canonical form; `body` is the validated JSON, see `gateway.chat.normalizing`."""

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
    # Nobody waits for it at a screen: it goes after interactive calls when not all can be served.
    is_batch: bool = False
    # The shape that the answer must have, and how often the model may be asked for it. None: any answer will do.
    contract: OutputContract | None = None
    attempts: int = 1
    # Where it wants to go, and where not.
    wish: RouteWish = NO_WISH
    # Its oldest turns may be left out where it does not fit.
    may_truncate: bool = False
    # It offered `functions`, the form before tools: it has tools here, and is answered in its own form.
    wants_function_call: bool = False


class PromptMark(NamedTuple):
    """Which version of a prompt answers a call."""

    name: str
    version: str
    # None where the caller pinned a number.
    label: str | None
    deprecated_us: int | None = None
    sunset_us: int | None = None


class Plan(NamedTuple):
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
    # How often the model may be asked, and the upper bounds of all attempts together; above are those of the first.
    attempts: int
    held_input_tokens: int
    held_output_tokens: int
    # Of the further models that the call may fall back to, in order. What is held covers the dearest of all.
    alternatives: tuple["Plan", ...] = ()


class Caching(NamedTuple):
    """How a call takes part in the response cache."""

    key: bytes
    # For how long its answer is kept, and how old an earlier one may be.
    keep_seconds: int
    within_seconds: int
    # An earlier answer will do, or that of another call which is still running.
    may_reuse: bool


class Ending(StrEnum):
    """How the upstream's part of a call ended; the values are those of `billing.UsageStatus`."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


class Attempt(NamedTuple):
    """One attempt of a call. Those that are billed are together its usage; the others failed before an answer."""

    upstream: str
    # "answered"; of answers that must have a shape "valid", "invalid", "refused" or "truncated"; of an attempt that
    # failed the error's code; "outrun" of one that another one was quicker than.
    outcome: str
    finish_reason: str
    tokens: TokenCounts
    is_estimated: bool
    upstream_ms: float
    problems: tuple[str, ...] = ()
    # Oddities of its usage, for the usage record.
    flags: tuple[str, ...] = ()
    # What it added to the cost of the call; known at settlement.
    cost_nanousd: int = 0
    # Nobody but the platform pays for an attempt that is not.
    is_billed: bool = True
    deployment_id: int = 0
    upstream_model: str = ""
    model: str = ""


class Receipt(NamedTuple):
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
    # Of calls whose answer must have a shape; empty for all others.
    attempts: tuple[Attempt, ...] = ()
    finish_reason: str = ""
    prompt: PromptMark | None = None
    # Messages that were left out so that the call fits.
    dropped_messages: int = 0
    quality: Quality = NO_QUALITY
    # What content rules found: rule, action, how often.
    guard: tuple[tuple[str, str, int], ...] = ()
    # See `billing.CacheState`; empty: the response cache had no part in it. The age is that of a cached answer.
    cache: str = ""
    cache_age_seconds: int | None = None
    # Why nothing was charged for what has a cost: a flag of `billing.waiving`.
    waiver: str = ""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """The record of one call; each stage fills in its part. Lives in one task."""

    operation: Operation
    token: str
    raw_body: bytes
    # On the WebSocket every call streams, whatever its body says.
    always_streams: bool = False
    # Streams of the platform's own events, which can begin anew with another attempt; else the model's own chunks.
    has_own_events: bool = False
    # Of a prompt run, which has its own shape of answers; empty: a chat completion.
    prompt_name: str = ""
    # Whether its stream is kept, so that the caller can come back for it. None: its headers or its customer's flag say.
    is_resumable: bool | None = None
    client_address: str | None = None
    # By name in lower case; on a WebSocket those of the handshake.
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    # What it says about cached answers: a header, or a field of a WebSocket message.
    cache_control: str = ""
    request_id: str = field(default_factory=lambda: make_id("req"))
    started: float = field(default_factory=perf_counter)
    # -- authenticate
    principal: Principal | None = None
    principal_is_cached: bool = False
    # How answers differ from the newest date of the API; None: not at all.
    older_shape: OlderShape | None = None
    # -- parse
    call: ChatCall | None = None
    input_count: InputCount | None = None
    prompt_request: PromptRequest | None = None
    # -- screen: None where no content rule is for the call
    screening: Screening | None = None
    # -- fill
    prompt_mark: PromptMark | None = None
    # -- resolve
    dropped_messages: int = 0
    plan: Plan | None = None
    # -- recall
    caching: Caching | None = None
    cache_state: str = ""
    # The answer that is known already.
    cached: CachedAnswer | None = None
    cache_age_seconds: int | None = None
    # -- reuse
    claim: Claim | None = None
    # The answer of an earlier call with the same key; nothing of this one is carried out.
    replayed: Replayed | None = None
    # -- admit
    admitted: Admitted | None = None
    # In the place of an admission: the answer that is known is booked.
    reused: Reused | None = None
    limits: Sequence[LimitReading] = ()
    # What its hold carries of the findings of content rules.
    held_findings: Counted = ()
    # Admission has written down why it refused.
    is_refusal_recorded: bool = False
    # -- call
    deployment: DeploymentEntry | None = None
    sent: float = 0
    first_token: float = 0
    ended: float = 0
    # -- relay: its events, where they are kept
    kept: KeptStream | None = None
    # -- fulfil: the value that fits the schema, or a run's text
    output: JsonValue = None

    @property
    def given_call(self) -> ChatCall | None:
        """Return the call as it was sent, with what content rules have taken out of it."""
        return self.call if self.screening is None else self.screening.call

    @property
    def is_run(self) -> bool:
        """Return whether the call is answered in the shape of a prompt run."""
        return bool(self.prompt_name)

"""The shape of a prompt run's answer, for the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class RunPrompt(BaseModel):
    """Which version answered."""

    name: str
    version: str
    label: str | None = Field(description="The label by which it was called; null where a number was pinned.")


class RunUsage(BaseModel):
    """Tokens of all attempts together."""

    input_tokens: int
    output_tokens: int
    source: Literal["provider", "estimated"]


class RunTiming(BaseModel):
    """Milliseconds."""

    upstream: float
    first_token: float | None
    total: float
    overhead: float = Field(description="What the gateway itself took.")


class RunAttempt(BaseModel):
    """One answer of the model."""

    upstream: str
    outcome: str = Field(
        description="valid, invalid, refused or truncated; of an attempt that failed at its provider the error's code, "
        "of one that another was quicker than 'outrun'."
    )
    finish_reason: str | None
    input_tokens: int
    output_tokens: int
    cost_usd: str
    upstream_ms: float
    problems: list[str] = Field(default_factory=list, description="Why it was not valid.")


class RunSource(BaseModel):
    """What the answer cites."""

    url: str
    title: str


class RunQuality(BaseModel):
    """Signs of how good the answer is; what is not known is absent."""

    finish_reasons: list[str] | None = None
    truncated: bool | None = Field(default=None, description="It reached its limit of tokens.")
    mean_logprob: float | None = Field(default=None, description="Of the tokens whose log-probabilities were given.")
    logprob_tokens: int | None = None
    schema_reasks: int | None = Field(default=None, description="How often the model was asked once more.")
    sources: list[RunSource] | None = None


class RunFinding(BaseModel):
    """What a content rule found in the inputs or the answer; never the text itself."""

    rule: str
    action: Literal["flag", "redact", "block"]
    count: int


class RunCache(BaseModel):
    """What the response cache did."""

    state: Literal["hit", "coalesced", "miss", "bypass"]
    age_seconds: int | None = Field(description="Of a cached answer.")


class PromptRun(BaseModel):
    """The answer of a prompt run; `output` is text, or the object that fits the prompt's output schema."""

    id: str
    output: Any
    finish_reason: str | None
    prompt: RunPrompt
    model: str
    usage: RunUsage
    cost_usd: str = Field(description="An exact decimal.")
    balance_usd: str = Field(description="What is available after the run, an exact decimal.")
    timing_ms: RunTiming
    attempts: list[RunAttempt] = Field(description="None of an answer that another call had fetched.")
    quality: RunQuality
    guard: list[RunFinding] = Field(default_factory=list, description="What content rules found; absent: nothing.")
    cache: RunCache | None = Field(default=None, description="Left out: the cache had no part in it.")


class RunEvent(BaseModel):
    """The data of an event of a streamed run; which fields there are depends on the event's name."""

    id: str | None = Field(default=None, description="`start`: the run's id.")
    prompt: RunPrompt | None = Field(default=None, description="`start`")
    model: str | None = Field(default=None, description="`start`")
    text: str | None = Field(default=None, description="`delta`: what has been added to a text.")
    attempt: int | None = Field(default=None, description="`partial`: a new attempt begins the value anew.")
    value: Any = Field(default=None, description="`partial`: the value as far as it has grown.")

"""What each attempt of a call used, and what all of them came to.

A call has several when deployments fail before the client has seen anything, and when its answer must have a shape and
has not. Answers are billed, together, as the one usage of the call; failed attempts are on record and on the house.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from billing.models import UsageSource
from billing.tokens import NO_TOKENS, TokenCounts, add_tokens
from common.errors import TollkeeperError
from gateway.attempt_rows import NewAttempt
from gateway.calls import Attempt
from gateway.flight import Flight
from gateway.structured.outputs import OutputText
from gateway.upstreams.transcript import Transcript


class Measured(NamedTuple):
    """What is billed of an answer, whose figures they are, and what was odd about them."""

    tokens: TokenCounts
    source: UsageSource
    flags: tuple[str, ...]


def measure(transcript: Transcript, *, input_tokens: int, is_worked_on: bool) -> Measured:
    """Return what an answer used.

    The provider's figures count whenever it gave any. Without them: an answer that produced something is billed by our
    count of it; one that did not, by its input where the provider worked on that (`is_worked_on`); else by nothing.
    """
    flags = tuple(transcript.flags)
    if transcript.usage is not None:
        return Measured(transcript.usage.tokens, UsageSource.PROVIDER, flags + tuple(transcript.usage.flags))
    produced = transcript.estimate(input_tokens=input_tokens)
    if produced.output_total:
        return Measured(produced, UsageSource.ESTIMATED, flags)
    if is_worked_on:
        return Measured(transcript.estimate_input(input_tokens=input_tokens), UsageSource.ESTIMATED, flags)
    return Measured(NO_TOKENS, UsageSource.NONE, flags)


def record_attempt(flight: Flight, *, is_worked_on: bool, error: TollkeeperError | None = None) -> Attempt:
    """Return what the present attempt came to."""
    exchange, verdict, deployment = flight.exchange, flight.verdict, flight.exchange.deployment
    assert exchange.plan is not None
    found = measure(flight.transcript, input_tokens=flight.input_tokens, is_worked_on=is_worked_on)
    outcome = "answered" if error is None else error.code
    return Attempt(
        upstream=deployment.upstream.name if deployment is not None else "",
        outcome=verdict.outcome if verdict is not None else outcome,
        finish_reason=flight.transcript.finish_reason,
        tokens=found.tokens,
        is_estimated=found.source is UsageSource.ESTIMATED,
        upstream_ms=(exchange.ended - exchange.sent) * 1000 if exchange.sent else 0,
        problems=tuple(verdict.problems) if verdict is not None else (),
        flags=found.flags,
        deployment_id=deployment.id if deployment is not None else 0,
        upstream_model=deployment.upstream_model if deployment is not None else "",
        model=exchange.plan.model.name,
    )


def put_by(flight: Flight, attempt: Attempt) -> None:
    """Put the present attempt among the earlier ones: nothing of it may reach the next one's answer or bill."""
    exchange = flight.exchange
    flight.earlier.append(attempt)
    flight.upstream_seconds += exchange.ended - exchange.sent
    if attempt.is_billed:
        flight.first_token = flight.first_token or exchange.first_token
    exchange.sent = exchange.first_token = exchange.ended = 0
    flight.transcript, flight.verdict = Transcript(), None
    flight.output = None if flight.output is None else OutputText()
    if flight.recording is not None:
        flight.recording.clear()
    if flight.held is not None:
        flight.held.clear()


def rows_of(
    attempts: Iterable[Attempt], *, request_id: str, customer_id: int, cost_of: Callable[[TokenCounts], int]
) -> tuple[NewAttempt, ...]:
    """Return the rows of a call's attempts; `cost_of` is what the provider charges us."""
    return tuple(
        NewAttempt(
            request_id=request_id,
            number=number,
            customer_id=customer_id,
            model=attempt.model,
            deployment_ref=attempt.deployment_id,
            upstream=attempt.upstream,
            upstream_model=attempt.upstream_model,
            outcome=attempt.outcome,
            is_billed=attempt.is_billed,
            input_tokens=attempt.tokens.input_total,
            output_tokens=attempt.tokens.output_total,
            is_estimated=attempt.is_estimated,
            provider_cost_nanousd=0 if attempt.tokens == NO_TOKENS else cost_of(attempt.tokens),
            upstream_ms=round(attempt.upstream_ms),
        )
        for number, attempt in enumerate(attempts, start=1)
    )


def add_up(earlier: Sequence[Attempt], last: Measured) -> Measured:
    """Return what a call used in all its answers; one estimated figure makes the sum an estimate."""
    if not earlier:
        return last
    is_estimated = last.source is UsageSource.ESTIMATED or any(attempt.is_estimated for attempt in earlier)
    flags = [flag for attempt in earlier for flag in attempt.flags]
    return Measured(
        add_tokens([*(attempt.tokens for attempt in earlier), last.tokens]),
        UsageSource.ESTIMATED if is_estimated else UsageSource.PROVIDER,
        tuple(dict.fromkeys((*flags, *last.flags, "asked_again"))),
    )


def openai_usage(tokens: TokenCounts) -> dict[str, Any]:
    """Return the usage object of an OpenAI-shaped answer that several attempts made together."""
    return {
        "prompt_tokens": tokens.input_total,
        "completion_tokens": tokens.output_total,
        "total_tokens": tokens.input_total + tokens.output_total,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": tokens.audio_input},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": tokens.audio_output},
    }


def price_attempts(attempts: Iterable[Attempt], cost_of: Callable[[TokenCounts], int]) -> tuple[Attempt, ...]:
    """Return the attempts with what each is billed: together they are the cost of the call."""
    return tuple(
        attempt._replace(cost_nanousd=cost_of(attempt.tokens))
        if attempt.is_billed and attempt.tokens != NO_TOKENS
        else attempt
        for attempt in attempts
    )

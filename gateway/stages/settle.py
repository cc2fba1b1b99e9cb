"""Book what the call was: usage record and hold, in one transaction, before the last byte leaves."""

import asyncio
import logging
from functools import partial
from time import perf_counter

from billing.attempts import pack_attempts
from billing.models import UsageSource
from billing.rates import Processing
from billing.waiving import find_waiver
from common.errors import TollkeeperError
from gateway.admission.commands import Settle, Settled
from gateway.attempt_rows import NewAttempt
from gateway.attempts import add_up, measure, price_attempts, record_attempt, rows_of
from gateway.calls import Attempt, ChatCall, Ending, Exchange, Receipt
from gateway.errors import SettlementDelayed, UpstreamError
from gateway.figures import figures_of_reuse, figures_of_use, usage_of
from gateway.flight import Flight
from gateway.guard_rows import CallFindings, freeze_notes
from gateway.guards.errors import AnswerBlocked
from gateway.guards.screening import Screening
from gateway.stages.reuse import stored_answer
from gateway.structured.errors import OutputError
from keys.models import KeyEnvironment

logger = logging.getLogger(__name__)

# On records of test keys: they name a cost and charge nothing.
TEST_KEY_FLAG = "test_key"
# On records of test cases of prompts, likewise.
PROMPT_TEST_FLAG = "prompt_test"
_BATCH_TIERS = ("flex", "batch")


async def settle(flight: Flight, ending: Ending, error: TollkeeperError | None, body: bytes | None) -> Receipt:
    """Return the receipt once the booking is durable. `body` is a whole completion's.

    Raises SettlementDelayed when it is not in time; the clerk keeps it and books it when the database answers.
    Being cancelled does not lose the booking: it is queued before anything is awaited.
    """
    exchange, transcript = flight.exchange, flight.transcript
    assert exchange.plan is not None
    assert exchange.principal is not None
    assert exchange.call is not None
    assert exchange.admitted is not None
    plan = exchange.plan
    # Whole but empty, or abandoned before it said anything: the provider worked on the input.
    is_worked_on = ending is Ending.COMPLETED or (ending is Ending.CANCELLED and bool(exchange.sent))
    last = measure(transcript, input_tokens=flight.input_tokens, is_worked_on=is_worked_on)
    answers = flight.answers if flight.earlier else ()
    if flight.reused is not None:
        figures = figures_of_reuse(exchange, flight.reused)
    else:
        uses = (*(attempt.tokens for attempt in answers), last.tokens) if answers else ()
        measured = add_up(answers, last) if answers else last
        figures = figures_of_use(exchange, measured, uses, processing_of(flight))
    flags = list(figures.flags)
    waiver = ""
    if figures.cost_nanousd and (plan.model.no_charge_on or plan.price.no_charge_on):
        waiver = find_waiver(
            plan.model.no_charge_on,
            plan.price.no_charge_on,
            # An answer that came and may not be handed on, or has the wrong shape, was produced, and is charged.
            has_failed=ending in (Ending.FAILED, Ending.INTERRUPTED) and not isinstance(error, OutputError),
            is_empty=ending is Ending.COMPLETED and not transcript.has_output and not flight.is_known,
        )
        flags += [waiver] if waiver else []
    if figures.cost_nanousd > exchange.admitted.amount_nanousd:
        flags.append(flag_of_excess(exchange))
    now = perf_counter()
    ended = exchange.ended or now
    sent = exchange.sent or ended
    total, upstream_time = now - exchange.started, ended - sent + flight.upstream_seconds
    screening = exchange.screening
    findings = None if screening is None else _findings(exchange, screening)
    if screening is not None and findings is not None:
        flags += screening.flags()
    first_token = flight.first_token or exchange.first_token
    ttft = first_token - exchange.started if first_token else None
    deployment = exchange.deployment or plan.deployments[0]
    served_by, served_as = deployment.upstream.name, deployment.upstream_model
    if flight.reused is not None:
        served_by, served_as = flight.reused.upstream, flight.reused.upstream_model
    finish_reason = flight.reused.finish_reason if flight.reused is not None else transcript.finish_reason
    attempts: tuple[Attempt, ...] = ()
    is_told = flight.output is not None or bool(flight.earlier) or isinstance(error, AnswerBlocked)
    if is_told or isinstance(error, UpstreamError):
        attempts = _attempts(flight, error, is_worked_on=is_worked_on)
    usage = usage_of(
        exchange,
        figures,
        upstream=served_by,
        upstream_model=served_as,
        status=ending.value,
        error_code=error.code if error is not None else "",
        finish_reason=finish_reason,
        flags=",".join(dict.fromkeys(flags)),
        started_us=exchange.admitted.started_us,
        upstream_ms=round(upstream_time * 1000),
        ttft_ms=None if ttft is None else round(ttft * 1000),
        total_ms=round(total * 1000),
        overhead_us=round((total - upstream_time) * 1_000_000),
        attempts=pack_attempts(figures.uses) if figures.uses else "",
    )
    receipt = Receipt(
        request_id=exchange.request_id,
        model=plan.model.name,
        upstream=served_by,
        tokens=figures.tokens,
        is_estimated=figures.source is UsageSource.ESTIMATED,
        charged_nanousd=0 if waiver else min(figures.cost_nanousd, exchange.admitted.amount_nanousd),
        waiver=waiver,
        upstream_ms=upstream_time * 1000,
        ttft_ms=None if ttft is None else ttft * 1000,
        total_ms=total * 1000,
        overhead_ms=(total - upstream_time) * 1000,
        attempts=attempts if is_told else (),
        finish_reason=finish_reason,
        prompt=exchange.prompt_mark,
        dropped_messages=exchange.dropped_messages,
        quality=transcript.read_quality(
            schema_attempts=0 if exchange.call.contract is None else len(flight.answers) + 1
        ),
        guard=() if screening is None else screening.summary(),
        cache=exchange.cache_state,
    )
    has_answer = exchange.claim is not None and error is None
    future = flight.runtime.clerk.submit(
        Settle(
            usage=usage,
            principal=exchange.principal,
            has_claim=exchange.claim is not None,
            answer=stored_answer(flight, body, receipt) if has_answer else None,
            marks=exchange.admitted.marks,
            endpoint_class=exchange.operation.limits_class,
            attempts=_rows(flight, attempts, error),
            findings=findings,
        )
    )
    settled = await _wait(flight, future)
    total = perf_counter() - exchange.started
    return receipt._replace(
        charged_nanousd=settled.charged_nanousd,
        available_nanousd=settled.available_nanousd,
        total_ms=total * 1000,
        overhead_ms=(total - upstream_time) * 1000,
    )


def _findings(exchange: Exchange, screening: Screening) -> CallFindings | None:
    assert exchange.principal is not None
    return freeze_notes(
        screening.notes,
        request_id=exchange.request_id,
        customer_id=exchange.principal.customer_id,
        api_key_id=exchange.principal.key_id,
        held=exchange.held_findings,
    )


def flag_of_excess(exchange: Exchange) -> str:
    """Return why a record's cost is more than what was held."""
    assert exchange.principal is not None
    if exchange.operation.is_free:
        return PROMPT_TEST_FLAG
    return TEST_KEY_FLAG if exchange.principal.environment == KeyEnvironment.TEST else "cost_exceeds_hold"


def _rows(flight: Flight, attempts: tuple[Attempt, ...], error: TollkeeperError | None) -> tuple[NewAttempt, ...]:
    """Return the rows of a call that failed at an upstream or needed several attempts; the usual call has none."""
    if len(attempts) < 2 and not isinstance(error, UpstreamError):
        return ()
    exchange = flight.exchange
    assert exchange.plan is not None
    assert exchange.principal is not None
    return rows_of(
        attempts,
        request_id=exchange.request_id,
        customer_id=exchange.principal.customer_id,
        cost_of=exchange.plan.price.provider_table.cost,
    )


def _attempts(flight: Flight, error: TollkeeperError | None, *, is_worked_on: bool) -> tuple[Attempt, ...]:
    """Return all attempts with their costs; one that was stopped before it was sent is none."""
    assert flight.exchange.plan is not None
    attempts = [*flight.earlier]
    if flight.exchange.sent:
        attempts.append(record_attempt(flight, is_worked_on=is_worked_on, error=error))
    return price_attempts(attempts, partial(flight.exchange.plan.price.table.cost, processing=processing_of(flight)))


async def _wait(flight: Flight, future: "asyncio.Future[Settled]") -> Settled:
    # Giving up on the future ends only the waiting: the clerk has the booking.
    flight.control.fail_late(future, flight.runtime.settle_timeout_seconds)
    try:
        return await future
    except TimeoutError:
        logger.exception("%s: settlement is not durable yet, the clerk keeps it", flight.exchange.request_id)
        raise SettlementDelayed from None


def asks_for_batch(call: ChatCall) -> bool:
    """Return whether the caller wants the provider's cheaper, slower processing."""
    return call.body.get("service_tier") in _BATCH_TIERS


def processing_of(flight: Flight) -> Processing:
    """Return how the call was processed: as a batch only if its caller asked for that and the provider says so.

    OpenAI's flex processing is sold at the price of batches; an answer names the tier that it was really served by
    (https://platform.openai.com/docs/guides/flex-processing, 2026-11).
    """
    call, tier = flight.exchange.call, flight.transcript.service_tier
    assert call is not None
    # Of several attempts nobody keeps the tiers: they are sold at the usual price.
    is_batch = asks_for_batch(call) and tier in _BATCH_TIERS and not flight.answers
    return Processing.BATCH if is_batch else Processing.STANDARD

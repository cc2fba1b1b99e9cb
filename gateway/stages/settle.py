"""Book what the call was: usage record and hold, in one transaction, before the last byte leaves."""

import asyncio
import logging
from functools import partial
from time import perf_counter

from billing.attempts import cost_of_use, pack_attempts
from billing.journal import NewUsage
from billing.models import UsageSource
from billing.rates import Processing
from billing.tokens import NO_TOKENS
from billing.waiving import find_waiver
from common.errors import TollkeeperError
from gateway.admission.commands import Settle, Settled
from gateway.attempt_rows import NewAttempt
from gateway.attempts import add_up, measure, price_attempts, record_attempt, rows_of
from gateway.calls import Attempt, ChatCall, Ending, Exchange, Receipt
from gateway.errors import SettlementDelayed, UpstreamError
from gateway.flight import Flight
from gateway.stages.reuse import stored_answer
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
    tokens, source, noted = add_up(answers, last) if answers else last
    flags = list(noted)
    processing = _processing(flight)
    uses = (*(attempt.tokens for attempt in answers), last.tokens) if answers else ()
    cost = provider_cost = 0
    if tokens is not NO_TOKENS:
        cost = cost_of_use(plan.price.table, tokens, uses, processing)
        provider_cost = cost_of_use(plan.price.provider_table, tokens, uses, processing)
    waiver = ""
    if cost and (plan.model.no_charge_on or plan.price.no_charge_on):
        waiver = find_waiver(
            plan.model.no_charge_on,
            plan.price.no_charge_on,
            has_failed=ending in (Ending.FAILED, Ending.INTERRUPTED),
            is_empty=ending is Ending.COMPLETED and not transcript.has_output,
        )
        flags += [waiver] if waiver else []
    if cost > exchange.admitted.amount_nanousd:
        flags.append(_flag_of_excess(exchange))
    now = perf_counter()
    ended = exchange.ended or now
    sent = exchange.sent or ended
    total, upstream_time = now - exchange.started, ended - sent + flight.upstream_seconds
    first_token = flight.first_token or exchange.first_token
    ttft = first_token - exchange.started if first_token else None
    deployment = exchange.deployment or plan.deployments[0]
    attempts: tuple[Attempt, ...] = ()
    if flight.output is not None or flight.earlier or isinstance(error, UpstreamError):
        attempts = _attempts(flight, error, is_worked_on=is_worked_on)
    usage = NewUsage(
        request_id=exchange.request_id,
        customer_id=exchange.principal.customer_id,
        api_key_id=exchange.principal.key_id,
        operation=exchange.operation.name,
        model=plan.model.name,
        upstream=deployment.upstream.name,
        upstream_model=deployment.upstream_model,
        price_version_id=plan.price.version_id,
        price_terms_id=plan.price.terms_id,
        processing=processing.value,
        status=ending.value,
        source=source.value,
        error_code=error.code if error is not None else "",
        finish_reason=transcript.finish_reason,
        is_stream=exchange.call.is_stream,
        tokens=tokens,
        cost_nanousd=cost,
        provider_cost_nanousd=provider_cost,
        flags=",".join(dict.fromkeys(flags)),
        end_user=exchange.call.end_user,
        tags=exchange.call.tags,
        started_us=exchange.admitted.started_us,
        upstream_ms=round(upstream_time * 1000),
        ttft_ms=None if ttft is None else round(ttft * 1000),
        total_ms=round(total * 1000),
        overhead_us=round((total - upstream_time) * 1_000_000),
        prompt=exchange.prompt_mark.name if exchange.prompt_mark is not None else "",
        prompt_version=exchange.prompt_mark.version if exchange.prompt_mark is not None else "",
        prompt_label=(exchange.prompt_mark.label or "") if exchange.prompt_mark is not None else "",
        attempts=pack_attempts(uses) if uses else "",
    )
    receipt = Receipt(
        request_id=exchange.request_id,
        model=plan.model.name,
        upstream=deployment.upstream.name,
        tokens=tokens,
        is_estimated=source is UsageSource.ESTIMATED,
        charged_nanousd=0 if waiver else min(cost, exchange.admitted.amount_nanousd),
        waiver=waiver,
        upstream_ms=upstream_time * 1000,
        ttft_ms=None if ttft is None else ttft * 1000,
        total_ms=total * 1000,
        overhead_ms=(total - upstream_time) * 1000,
        attempts=attempts if flight.output is not None or flight.earlier else (),
        finish_reason=transcript.finish_reason,
        prompt=exchange.prompt_mark,
        dropped_messages=exchange.dropped_messages,
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


def _flag_of_excess(exchange: Exchange) -> str:
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
    return price_attempts(attempts, partial(flight.exchange.plan.price.table.cost, processing=_processing(flight)))


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


def _processing(flight: Flight) -> Processing:
    """Return how the call was processed: as a batch only if its caller asked for that and the provider says so.

    OpenAI's flex processing is sold at the price of batches; an answer names the tier that it was really served by
    (https://platform.openai.com/docs/guides/flex-processing, 2026-11).
    """
    call, tier = flight.exchange.call, flight.transcript.service_tier
    assert call is not None
    # Of several attempts nobody keeps the tiers: they are sold at the usual price.
    is_batch = asks_for_batch(call) and tier in _BATCH_TIERS and not flight.answers
    return Processing.BATCH if is_batch else Processing.STANDARD

"""Book what the call was: usage record and hold, in one transaction, before the last byte leaves."""

import asyncio
import logging
from time import perf_counter

from billing.journal import NewUsage
from billing.models import UsageSource
from billing.tokens import NO_TOKENS, TokenCounts
from common.errors import TollkeeperError
from gateway.admission.commands import Settle, Settled
from gateway.calls import Ending, Exchange, Receipt
from gateway.errors import SettlementDelayed
from gateway.flight import Flight
from gateway.upstreams.transcript import Transcript

logger = logging.getLogger(__name__)


async def settle(flight: Flight, ending: Ending, error: TollkeeperError | None) -> Receipt:
    """Return the receipt once the booking is durable.

    Raises SettlementDelayed when it is not in time; the clerk keeps it and books it when the database answers.
    Being cancelled does not lose the booking: it is queued before anything is awaited.
    """
    exchange, transcript = flight.exchange, flight.transcript
    assert exchange.plan is not None
    assert exchange.principal is not None
    assert exchange.call is not None
    assert exchange.admitted is not None
    plan = exchange.plan
    tokens, source, flags = _tokens_used(exchange, transcript, ending)
    cost = plan.price.rates.cost(tokens) if tokens is not NO_TOKENS else 0
    if cost > exchange.admitted.amount_nanousd:
        flags.append("cost_exceeds_hold")
    now = perf_counter()
    ended = exchange.ended or now
    sent = exchange.sent or ended
    total, upstream_time = now - exchange.started, ended - sent
    ttft = exchange.first_token - exchange.started if exchange.first_token else None
    deployment = exchange.deployment or plan.deployments[0]
    usage = NewUsage(
        request_id=exchange.request_id,
        customer_id=exchange.principal.customer_id,
        api_key_id=exchange.principal.key_id,
        operation=exchange.operation.name,
        model=plan.model.name,
        upstream=deployment.upstream.name,
        upstream_model=deployment.upstream_model,
        price_version_id=plan.price.version_id,
        status=ending.value,
        source=source.value,
        error_code=error.code if error is not None else "",
        finish_reason=transcript.finish_reason,
        is_stream=exchange.call.is_stream,
        tokens=tokens,
        cost_nanousd=cost,
        provider_cost_nanousd=plan.price.provider_rates.cost(tokens) if tokens is not NO_TOKENS else 0,
        flags=",".join(dict.fromkeys(flags)),
        end_user=exchange.call.end_user,
        tags=exchange.call.tags,
        started_us=exchange.admitted.started_us,
        upstream_ms=round(upstream_time * 1000),
        ttft_ms=None if ttft is None else round(ttft * 1000),
        total_ms=round(total * 1000),
        overhead_us=round((total - upstream_time) * 1_000_000),
    )
    future = flight.runtime.clerk.submit(Settle(usage=usage, principal=exchange.principal))
    settled = await _wait(flight, future)
    total = perf_counter() - exchange.started
    return Receipt(
        request_id=exchange.request_id,
        model=plan.model.name,
        upstream=deployment.upstream.name,
        tokens=tokens,
        is_estimated=source is UsageSource.ESTIMATED,
        charged_nanousd=settled.charged_nanousd,
        available_nanousd=settled.available_nanousd,
        upstream_ms=upstream_time * 1000,
        ttft_ms=None if ttft is None else ttft * 1000,
        total_ms=total * 1000,
        overhead_ms=(total - upstream_time) * 1000,
    )


async def _wait(flight: Flight, future: "asyncio.Future[Settled]") -> Settled:
    try:
        # Giving up on the future cancels only the waiting: the clerk has the booking.
        async with asyncio.timeout(flight.runtime.settle_timeout_seconds):
            return await future
    except TimeoutError:
        logger.exception("%s: settlement is not durable yet, the clerk keeps it", flight.exchange.request_id)
        raise SettlementDelayed from None


def _tokens_used(
    exchange: Exchange, transcript: Transcript, ending: Ending
) -> tuple[TokenCounts, UsageSource, list[str]]:
    """Return what is billed, whose figures they are, and what was odd about them.

    The provider's figures count whenever it gave any. Without them: a call that produced something is billed by our
    count of it; one that its client abandoned before it did, by its input; one that failed is not billed.
    """
    assert exchange.plan is not None
    flags = list(transcript.flags)
    if transcript.usage is not None:
        flags += transcript.usage.flags
        return transcript.usage.tokens, UsageSource.PROVIDER, flags
    produced = transcript.estimate(input_tokens=exchange.plan.input_tokens)
    if produced.output_total:
        return produced, UsageSource.ESTIMATED, flags
    if ending is Ending.COMPLETED or (ending is Ending.CANCELLED and exchange.sent):
        # Whole but empty, or abandoned before it said anything: the provider worked on the input.
        return TokenCounts(input=exchange.plan.input_tokens), UsageSource.ESTIMATED, flags
    return NO_TOKENS, UsageSource.NONE, flags

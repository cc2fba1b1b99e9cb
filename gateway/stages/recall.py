"""Is the answer to this call known already? Off unless the model, the prompt or the caller says how old it may be.

A cached answer is booked like any call: admission holds it to the key, every limit and the budgets, in the transaction
that writes its usage record. No upstream is asked.
"""

from time import perf_counter

from billing.models import CacheState, UsageStatus
from gateway.admission.commands import Admit, Reuse
from gateway.caching.directives import NO_DIRECTIVES, CacheControl, read_cache_control
from gateway.caching.entries import CachedAnswer
from gateway.calls import Caching, Exchange, Receipt
from gateway.errors import AnswerNotCached
from gateway.figures import figures_of_reuse, usage_of
from gateway.flight import Sink
from gateway.runtime import Runtime
from gateway.stages.keep import is_kept
from gateway.stages.reuse import send_stored, store
from gateway.stages.settle import flag_of_excess
from gateway.versions import NEWEST
from keys.models import KeyEnvironment


async def recall(runtime: Runtime, exchange: Exchange) -> None:
    """Fill in how the call takes part in the cache, and the answer where there is one.

    Raises CacheControlInvalid, or AnswerNotCached for a call that wants nothing else.
    """
    plan = exchange.plan
    assert plan is not None
    # Of a plan before this one, where the call had to be planned again.
    exchange.cached, exchange.caching, exchange.cache_state = None, None, ""
    if not exchange.cache_control and not plan.model.cache_seconds and exchange.prompt_mark is None:
        return
    control = read_cache_control(exchange.cache_control) if exchange.cache_control else NO_DIRECTIVES
    exchange.caching = caching = _plan_caching(runtime, exchange, control)
    if caching is not None and caching.may_reuse:
        now_us = runtime.clerk.now_us
        cached = await runtime.answers.find(caching.key, within_seconds=caching.within_seconds, now_us=now_us)
        exchange.cache_state = CacheState.MISS.value
        if cached is not None:
            exchange.cached, exchange.cache_age_seconds = cached, cached.age_seconds(now_us)
            exchange.cache_state = CacheState.HIT.value
            return
    if control.only_if_cached:
        raise AnswerNotCached


def ask_for_reuse(exchange: Exchange, cached: CachedAnswer) -> Reuse:
    """Return the question whether the call may have a cached answer."""
    plan, principal = exchange.plan, exchange.principal
    assert plan is not None
    assert principal is not None
    figures = figures_of_reuse(exchange, cached)
    # A test key never touches money.
    amount = 0 if principal.environment == KeyEnvironment.TEST else figures.cost_nanousd
    total = perf_counter() - exchange.started
    answer = None
    if exchange.claim is not None:
        answer = store(cached.body, _receipt_of(exchange, cached, charged_nanousd=amount), cached.output)
    return Reuse(
        admit=Admit(
            request_id=exchange.request_id,
            principal=principal,
            catalogue_generation=plan.catalogue_generation,
            amount_nanousd=amount,
            input_tokens=0,
            output_tokens=0,
            lifetime_us=0,
            draft="",
            client_address=exchange.client_address,
            claim=exchange.claim,
            endpoint_class=exchange.operation.limits_class,
            pin="" if principal.api_version else NEWEST,
            operation=exchange.operation.name,
            model=plan.model.name,
        ),
        usage=usage_of(
            exchange,
            figures,
            upstream=cached.upstream,
            upstream_model=cached.upstream_model,
            status=UsageStatus.COMPLETED.value,
            finish_reason=cached.finish_reason,
            flags=flag_of_excess(exchange) if figures.cost_nanousd > amount else "",
            # The moment of the admission, which is the booking's.
            started_us=0,
            total_ms=round(total * 1_000),
            overhead_us=round(total * 1_000_000),
        ),
        answer=answer,
    )


async def serve_cached(exchange: Exchange, sink: Sink) -> None:
    """Answer with a cached answer that has been booked: body and chunks are those of the call that fetched it."""
    cached, reused = exchange.cached, exchange.reused
    assert cached is not None
    assert reused is not None
    exchange.output = cached.output
    receipt = _receipt_of(exchange, cached, charged_nanousd=reused.charged_nanousd)
    await send_stored(exchange, sink, receipt._replace(available_nanousd=reused.available_nanousd), cached.body)


def _plan_caching(runtime: Runtime, exchange: Exchange, control: CacheControl) -> Caching | None:
    """Return how the call takes part, or None; a call that keeps out of a cache that is on bypasses it."""
    call, plan = exchange.call, exchange.plan
    assert call is not None
    assert plan is not None
    limit = plan.model.cache_limit_seconds
    default = min(_default_seconds(runtime, exchange), limit)
    asked = control.max_age_seconds
    if asked is None and control.only_if_cached and not default:
        asked = limit
    within = default if asked is None else min(asked, limit)
    if exchange.operation.is_free or not (default or within):
        return None
    # What the provider is told to keep has to reach it, what content rules cover is checked every time, and a stream
    # that its caller may come back for is that caller's own.
    is_own = exchange.screening is not None or (call.is_stream and is_kept(runtime, exchange))
    if control.no_store or is_own or call.body.get("store"):
        exchange.cache_state = CacheState.BYPASS.value
        return None
    if control.no_cache:
        exchange.cache_state = CacheState.BYPASS.value
    return Caching(
        key=runtime.cache_keys.key_of(exchange, runtime.clerk.catalogue),
        keep_seconds=max(default, within),
        within_seconds=within,
        may_reuse=not control.no_cache,
    )


def _default_seconds(runtime: Runtime, exchange: Exchange) -> int:
    assert exchange.plan is not None
    if exchange.prompt_mark is not None:
        prompt = runtime.clerk.catalogue.prompts.find_prompt(exchange.prompt_mark.name)
        if prompt is not None and prompt.cache_seconds is not None:
            return prompt.cache_seconds
    return exchange.plan.model.cache_seconds


def _receipt_of(exchange: Exchange, cached: CachedAnswer, *, charged_nanousd: int) -> Receipt:
    assert exchange.plan is not None
    total_ms = (perf_counter() - exchange.started) * 1_000
    return Receipt(
        request_id=exchange.request_id,
        model=exchange.plan.model.name,
        upstream=cached.upstream,
        tokens=cached.tokens,
        is_estimated=cached.is_estimated,
        charged_nanousd=charged_nanousd,
        total_ms=total_ms,
        overhead_ms=total_ms,
        finish_reason=cached.finish_reason,
        prompt=exchange.prompt_mark,
        dropped_messages=exchange.dropped_messages,
        cache=exchange.cache_state,
        cache_age_seconds=exchange.cache_age_seconds,
    )

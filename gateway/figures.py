"""What a call used and what it costs, and the usage record that tells it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from billing.attempts import cost_of_use
from billing.journal import NewUsage
from billing.models import UsageSource
from billing.rates import Processing
from billing.reuse import cost_of_reuse
from billing.tokens import NO_TOKENS, TokenCounts
from gateway.attempts import Measured
from gateway.caching.entries import CachedAnswer
from gateway.calls import Exchange


class Figures(NamedTuple):
    """Tokens and money of a call; see `billing.UsageRecord`."""

    tokens: TokenCounts
    source: UsageSource
    processing: Processing
    cost_nanousd: int = 0
    provider_cost_nanousd: int = 0
    # Found odd, for the record.
    flags: tuple[str, ...] = ()
    # Tokens of each answer, where there were several.
    uses: tuple[TokenCounts, ...] = ()
    # Of an answer that another call had fetched.
    reused_percent: int = 0
    reused_bytes: int = 0
    saved_nanousd: int = 0


def figures_of_use(
    exchange: Exchange, measured: Measured, uses: Sequence[TokenCounts], processing: Processing
) -> Figures:
    """Return what answers of providers cost: all of `uses` where there are several, else what was measured."""
    assert exchange.plan is not None
    tokens, source, flags = measured
    cost = provider_cost = 0
    if tokens is not NO_TOKENS:
        price = exchange.plan.price
        cost = cost_of_use(price.table, tokens, uses, processing)
        provider_cost = cost_of_use(price.provider_table, tokens, uses, processing)
    return Figures(tokens, source, processing, cost, provider_cost, flags, tuple(uses))


def figures_of_reuse(exchange: Exchange, cached: CachedAnswer) -> Figures:
    """Return what an answer costs that another call had fetched: the plan's part of its price, else the model's."""
    assert exchange.plan is not None
    assert exchange.principal is not None
    percent = exchange.principal.plan_reused_percent
    if percent is None:
        percent = exchange.plan.model.reused_price_percent
    price, processing = exchange.plan.price, Processing(cached.processing)
    return Figures(
        tokens=cached.tokens,
        source=UsageSource.ESTIMATED if cached.is_estimated else UsageSource.PROVIDER,
        processing=processing,
        cost_nanousd=cost_of_reuse(price.table, cached.tokens, processing, percent=percent),
        reused_percent=percent,
        reused_bytes=len(cached.body),
        saved_nanousd=price.provider_table.cost(cached.tokens, processing),
    )


def usage_of(exchange: Exchange, figures: Figures, **ending: Any) -> NewUsage:
    """Return the usage record of a call; `ending` are the columns that tell how it went."""
    call, plan, principal, mark = exchange.call, exchange.plan, exchange.principal, exchange.prompt_mark
    assert call is not None
    assert plan is not None
    assert principal is not None
    return NewUsage(
        request_id=exchange.request_id,
        customer_id=principal.customer_id,
        api_key_id=principal.key_id,
        operation=exchange.operation.name,
        model=plan.model.name,
        price_version_id=plan.price.version_id,
        price_terms_id=plan.price.terms_id,
        processing=figures.processing.value,
        source=figures.source.value,
        is_stream=call.is_stream,
        tokens=figures.tokens,
        cost_nanousd=figures.cost_nanousd,
        provider_cost_nanousd=figures.provider_cost_nanousd,
        end_user=call.end_user,
        tags=call.tags,
        prompt=mark.name if mark is not None else "",
        prompt_version=mark.version if mark is not None else "",
        prompt_label=(mark.label or "") if mark is not None else "",
        cache=exchange.cache_state,
        reused_percent=figures.reused_percent,
        reused_bytes=figures.reused_bytes,
        saved_nanousd=figures.saved_nanousd,
        **ending,
    )

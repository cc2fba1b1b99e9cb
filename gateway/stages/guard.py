"""Is the call sane for this model and this key? Everything that needs no lock is refused here, with its numbers."""

from gateway.calls import Exchange
from gateway.errors import ContextLengthExceeded, InputTooLong, OutputTooLong


def guard(exchange: Exchange) -> None:
    """Raise OutputTooLong, InputTooLong or ContextLengthExceeded."""
    assert exchange.call is not None
    assert exchange.plan is not None
    assert exchange.principal is not None
    call, plan, model = exchange.call, exchange.plan, exchange.plan.model
    if plan.output_tokens_per_choice > model.max_output_tokens:
        raise OutputTooLong(
            model=model.name,
            requested=plan.output_tokens_per_choice,
            limit=model.max_output_tokens,
            param=call.max_output_parameter,
        )
    cap = exchange.principal.max_input_tokens
    if cap is not None and plan.input_tokens > cap:
        raise InputTooLong(input_tokens=plan.input_tokens, limit=cap)
    if plan.input_tokens + plan.output_tokens_per_choice > model.context_window:
        raise ContextLengthExceeded(
            model=model.name,
            context_window=model.context_window,
            input_tokens=plan.input_tokens,
            output_tokens=plan.output_tokens_per_choice,
        )

"""Is the call sane for this model and this key? Everything that needs no lock is refused here, with its numbers."""

from gateway.calls import ChatCall, Exchange, Plan
from gateway.errors import ContextLengthExceeded, InputTooLong, OutputTooLong
from keys.principals import Principal


def guard(exchange: Exchange, now_us: int) -> None:
    """Raise OutputTooLong, InputTooLong or ContextLengthExceeded."""
    assert exchange.call is not None
    assert exchange.plan is not None
    assert exchange.principal is not None
    check_plan(exchange.call, exchange.plan, exchange.principal, now_us)


def check_plan(call: ChatCall, plan: Plan, principal: Principal, now_us: int) -> None:
    """Return when the call fits its model and its key. Raises like `guard`."""
    model = plan.model
    if plan.output_tokens_per_choice > model.max_output_tokens:
        raise OutputTooLong(
            model=model.name,
            requested=plan.output_tokens_per_choice,
            limit=model.max_output_tokens,
            param=call.max_output_parameter,
        )
    cap = principal.max_input_tokens_at(now_us)
    if cap is not None and plan.input_tokens > cap:
        raise InputTooLong(input_tokens=plan.input_tokens, limit=cap)
    if plan.input_tokens + plan.output_tokens_per_choice > model.context_window:
        raise ContextLengthExceeded(
            model=model.name,
            context_window=model.context_window,
            input_tokens=plan.input_tokens,
            output_tokens=plan.output_tokens_per_choice,
        )

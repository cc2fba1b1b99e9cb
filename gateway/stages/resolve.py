"""model name -> Plan: a pure function of the call, the key and one generation of the catalogue."""

from billing.errors import PriceMissing
from gateway.calls import ChatCall, Exchange, Plan
from gateway.catalogue import Catalogue, ModelEntry
from gateway.chat.counting import InputCount
from gateway.errors import ModelNotFound, ModelUnavailable
from keys.principals import Principal

# Above all deadlines of a call: the hold of a call outlives the call, whatever happens to it.
_LIFETIME_MARGIN_SECONDS = 60


def resolve(exchange: Exchange, catalogue: Catalogue, now_us: int) -> None:
    """Fill in the plan. Raises ModelNotFound, ModelUnavailable or PriceMissing."""
    assert exchange.call is not None
    assert exchange.input_count is not None
    assert exchange.principal is not None
    exchange.plan = plan_call(exchange.call, exchange.input_count, exchange.principal, catalogue, now_us)


def plan_call(call: ChatCall, counted: InputCount, principal: Principal, catalogue: Catalogue, now_us: int) -> Plan:
    """Return where the call may go, in order, and the most that it can cost there."""
    model = catalogue.models.get(call.model)
    if model is None or not principal.may_use_model(call.model):
        raise ModelNotFound(model=call.model[:100])
    deployments = model.deployments_for(principal.environment)
    if not deployments:
        raise ModelUnavailable(model=model.name)
    price = catalogue.prices.find_price(model.name, now_us)
    if price is None:
        raise PriceMissing(model=model.name)
    input_tokens = estimated_input(model, counted)
    per_choice = call.max_output_tokens or min(model.default_output_tokens, model.max_output_tokens)
    output_tokens = per_choice * call.choices
    amount = price.rates.upper_bound(input_tokens=input_tokens, output_tokens=output_tokens)
    longest = max(d.upstream.connect_timeout_seconds + d.upstream.total_timeout_seconds for d in deployments)
    lifetime = longest * len(deployments) + _LIFETIME_MARGIN_SECONDS
    return Plan(
        model=model,
        deployments=deployments,
        price=price,
        catalogue_generation=catalogue.generation,
        input_tokens=input_tokens,
        output_tokens_per_choice=per_choice,
        output_tokens=output_tokens,
        amount_nanousd=amount,
        lifetime_us=int(lifetime * 1_000_000),
    )


def estimated_input(model: ModelEntry, counted: InputCount) -> int:
    """Return the input's upper bound for a model: our count with its factor, its template, its bound for images."""
    text = -(-counted.text_tokens * model.input_estimate_percent // 100)
    return text + model.input_overhead_tokens + counted.images * model.image_tokens

"""model name -> Plan: a pure function of the call, the key and one generation of the catalogue."""

from billing.errors import PriceMissing
from common.errors import TollkeeperError
from gateway.breakers import Standing
from gateway.calls import ChatCall, Exchange, Plan
from gateway.catalogue import Catalogue, ModelEntry
from gateway.chat.counting import InputCount
from gateway.errors import DeploymentsResting, ModelNotFound, ModelUnavailable
from gateway.guards.checking import DEADLINES_MS
from gateway.routing import Weight
from gateway.stages.guard import check_plan
from gateway.stages.route import choose_deployments
from gateway.structured.asking import INSTRUCTION_TOKENS, correction_tokens
from keys.models import KeyEnvironment
from keys.principals import Principal

# Above all deadlines of a call: the hold of a call outlives the call, whatever happens to it.
_LIFETIME_MARGIN_SECONDS = 60


def resolve(exchange: Exchange, catalogue: Catalogue, standing: Standing, now_us: int) -> None:
    """Fill in the plan.

    Raises ModelNotFound, ModelUnavailable, CapabilityMissing, ProviderUnavailable, DeploymentsResting or PriceMissing.
    """
    assert exchange.call is not None
    assert exchange.input_count is not None
    assert exchange.principal is not None
    exchange.plan = plan_call(
        exchange.call,
        exchange.input_count,
        exchange.principal,
        catalogue,
        now_us,
        standing=standing,
        is_free=exchange.operation.is_free,
    )
    if exchange.screening is not None and exchange.screening.has_judges:
        # Twice for judges, and once more as long as the answer took: a stream that was held goes out at the end.
        longest = max(d.upstream.total_timeout_seconds for d in exchange.plan.deployments)
        added_us = 2 * DEADLINES_MS.stop * 1_000 + int(longest * 1_000_000)
        exchange.plan = exchange.plan._replace(lifetime_us=exchange.plan.lifetime_us + added_us)


def plan_call(
    call: ChatCall,
    counted: InputCount,
    principal: Principal,
    catalogue: Catalogue,
    now_us: int,
    *,
    standing: Standing,
    is_free: bool = False,
) -> Plan:
    """Return where the call may go, in order, and the most that it can cost there."""
    if call.wish.models:
        return _plan_models(call, counted, principal, catalogue, now_us, standing=standing, is_free=is_free)
    model = catalogue.models.get(call.model)
    if model is None or not principal.may_use_model(call.model):
        raise ModelNotFound(model=call.model[:100])
    input_tokens = estimated_input(model, counted)
    per_choice = call.max_output_tokens or min(model.default_output_tokens, model.max_output_tokens)
    output_tokens = per_choice * call.choices
    deployments = choose_deployments(
        call,
        counted,
        model,
        principal,
        catalogue,
        size=Weight(input_tokens, output_tokens),
        standing=standing,
        now_us=now_us,
    )
    if not deployments:
        raise ModelUnavailable(model=model.name)
    price = catalogue.prices.find_price(
        model.name, now_us, customer_id=principal.customer_id, plan_id=principal.plan_id
    )
    if price is None:
        raise PriceMissing(model=model.name)
    attempts, held_input = 1, input_tokens
    if call.contract is not None:
        input_tokens += model.scale_tokens(INSTRUCTION_TOKENS)
        attempts, held_input = plan_attempts(call, model, input_tokens=input_tokens, output_tokens=per_choice)
    held_output = output_tokens * attempts
    # A test key reaches upstreams that cost nothing, and never touches money.
    is_free = is_free or principal.environment == KeyEnvironment.TEST
    amount = 0 if is_free else price.table.upper_bound(input_tokens=input_tokens, output_tokens=output_tokens)
    if attempts > 1 and amount:
        # Each attempt is priced by its own size: the sum of their inputs may be in a band that none of them reaches,
        # and two short ones may cost more than the most that one call in their band can.
        repeated = (held_input - input_tokens) // (attempts - 1)
        amount += (attempts - 1) * price.table.upper_bound(input_tokens=repeated, output_tokens=output_tokens)
    longest = max(d.upstream.connect_timeout_seconds + d.upstream.total_timeout_seconds for d in deployments)
    # No attempt begins later than `attempts_seconds` after the first, whatever their number.
    pauses = model.retries * model.retry_wait_seconds
    lasts = min(longest * (len(deployments) + model.retries) + pauses, model.attempts_seconds + longest)
    lifetime = lasts * attempts + _LIFETIME_MARGIN_SECONDS
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
        attempts=attempts,
        held_input_tokens=held_input,
        held_output_tokens=held_output,
    )


def _plan_models(
    call: ChatCall,
    counted: InputCount,
    principal: Principal,
    catalogue: Catalogue,
    now_us: int,
    *,
    standing: Standing,
    is_free: bool,
) -> Plan:
    """Return the plan of the first model that can answer, with those of the others behind it.

    A model that the key may not use, or that cannot do what is asked for, is no mistake to be passed over in silence:
    it is refused as if the call had named it alone. One that is out of order is passed over; that is what they are for.
    """
    plans: list[Plan] = []
    unavailable: TollkeeperError | None = None
    wish = call.wish._replace(models=())
    for name in dict.fromkeys((call.model, *call.wish.models)):
        one = call._replace(model=name, wish=wish)
        try:
            plan = plan_call(one, counted, principal, catalogue, now_us, standing=standing, is_free=is_free)
            check_plan(one, plan, principal, now_us)
        except (ModelUnavailable, DeploymentsResting) as error:
            unavailable = unavailable or error
        else:
            plans.append(plan)
    if not plans:
        assert unavailable is not None
        raise unavailable
    first, *others = plans
    return first._replace(
        alternatives=tuple(others),
        amount_nanousd=max(plan.amount_nanousd for plan in plans),
        lifetime_us=sum(plan.lifetime_us for plan in plans),
        held_input_tokens=max(plan.held_input_tokens for plan in plans),
        held_output_tokens=max(plan.held_output_tokens for plan in plans),
    )


def plan_attempts(call: ChatCall, model: ModelEntry, *, input_tokens: int, output_tokens: int) -> tuple[int, int]:
    """Return how often the model may be asked, and the input of all attempts together.

    Every attempt after the first carries the whole input again, the answer before and what is wrong with it. Where
    that does not fit into the model's window, the call is asked once.
    """
    repeated = input_tokens + model.scale_tokens(correction_tokens(output_tokens))
    if call.attempts == 1 or repeated + output_tokens > model.context_window:
        return 1, input_tokens
    return call.attempts, input_tokens + repeated * (call.attempts - 1)


def estimated_input(model: ModelEntry, counted: InputCount) -> int:
    """Return the input's upper bound for a model: our count with its factor, its template, its bound for images."""
    return model.scale_tokens(counted.text_tokens) + model.input_overhead_tokens + counted.images * model.image_tokens

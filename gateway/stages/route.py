"""Where a call may go, first choice first: what can do what it asks for, what it lets itself be carried to, what does
not rest. Pure.
"""

from typing import NamedTuple

from gateway.breakers import Standing
from gateway.calls import ChatCall
from gateway.capabilities import DESCRIPTIONS, Capability, first_missing, needs_of
from gateway.catalogue import Catalogue, DeploymentEntry, ModelEntry
from gateway.chat.counting import InputCount
from gateway.errors import CapabilityMissing, DeploymentsResting, ProviderUnavailable
from gateway.routing import NO_WISH, Weight, order_deployments
from gateway.upstreams.dialects import dialect_of
from keys.principals import Principal

_SHOWN_MODELS = 5


class Refusal(NamedTuple):
    """What of a call a deployment cannot do, and how to do without it."""

    param: str
    sentence: str


def choose_deployments(
    call: ChatCall,
    counted: InputCount,
    model: ModelEntry,
    principal: Principal,
    catalogue: Catalogue,
    *,
    size: Weight,
    standing: Standing,
    now_us: int,
) -> tuple[DeploymentEntry, ...]:
    """Return the deployments that can serve the call now, first choice first; none only where the key may reach none.

    Raises CapabilityMissing when there are some and none can, with what the first of them lacks and models that can;
    ProviderUnavailable when the call's own wishes leave none; DeploymentsResting when all that are left rest.
    """
    needs = needs_of(call.body, images=counted.images)
    reachable = model.deployments_for(principal.environment)
    chosen = tuple(deployment for deployment in reachable if find_refusal(call, needs, deployment) is None)
    if not chosen and reachable:
        refusal = find_refusal(call, needs, reachable[0])
        assert refusal is not None
        raise CapabilityMissing(
            model=model.name,
            refusal=refusal.sentence,
            param=refusal.param,
            models=_models_that_can(call, needs, principal, catalogue),
        )
    wish = call.wish
    if wish is not NO_WISH:
        chosen = tuple(deployment for deployment in chosen if wish.allows(deployment))
        if not chosen and reachable:
            raise ProviderUnavailable(model=model.name)
    if len(chosen) > 1:
        chosen = order_deployments(chosen, model, wish, size=size, standing=standing, now_us=now_us)
    awake = tuple(deployment for deployment in chosen if not standing.resting_until_us(deployment.id, now_us))
    if not awake and chosen:
        first_us = min(standing.resting_until_us(deployment.id, now_us) for deployment in chosen)
        raise DeploymentsResting(model=model.name, retry_after_seconds=max(1, -(-(first_us - now_us) // 1_000_000)))
    return awake if wish.allow_fallbacks else awake[:1]


def find_refusal(call: ChatCall, needs: Capability, deployment: DeploymentEntry) -> Refusal | None:
    """Return what of a call a deployment cannot do, or None."""
    missing = first_missing(needs, deployment.capabilities)
    if missing is not None:
        description = DESCRIPTIONS[missing]
        return Refusal(description.param, description.refusal)
    obstacle = dialect_of(deployment.upstream.dialect).find_obstacle(call.body)
    return None if obstacle is None else Refusal(obstacle.param, obstacle.sentence)


def _models_that_can(call: ChatCall, needs: Capability, principal: Principal, catalogue: Catalogue) -> list[str]:
    found = [
        name
        for name, model in catalogue.models.items()
        if principal.may_use_model(name)
        and any(find_refusal(call, needs, d) is None for d in model.deployments_for(principal.environment))
    ]
    return found[:_SHOWN_MODELS]

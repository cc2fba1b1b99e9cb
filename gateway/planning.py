"""What routing would do with a sample call, for people: every deployment of a model, its turn or what keeps it out."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.breakers import Standing
from gateway.capabilities import DESCRIPTIONS, Capability, first_missing
from gateway.catalogue import DeploymentEntry, ModelEntry
from gateway.models import Routing
from gateway.routing import NO_WISH, RouteWish, Weight, cost_of, order_deployments


class Sample(NamedTuple):
    """A call that nobody makes."""

    needs: Capability
    size: Weight
    environment: str = "live"
    wish: RouteWish = NO_WISH


class Turn(NamedTuple):
    """A deployment in the plan of a sample; `position` counts from 1, None: it is not in the plan, see `obstacle`."""

    deployment: DeploymentEntry
    position: int | None
    obstacle: str
    # Of the calls like this one, how many begin here.
    share_percent: int
    cost_nanousd: int | None
    latency_seconds: float | None
    resting_until_us: int


def plan_sample(model: ModelEntry, sample: Sample, *, standing: Standing, now_us: int) -> list[Turn]:
    """Return the turns of all deployments: those that would be tried in their order, then those that would not.

    Where weights decide, those of the greatest weight stand first and `share_percent` tells the rest.
    """
    able = [d for d in model.deployments if not find_obstacle(d, sample)]
    ordered = order_deployments(
        able, model, sample.wish, size=sample.size, standing=standing, now_us=now_us, draw=lambda: 0.5
    )
    awake = [d for d in ordered if not standing.resting_until_us(d.id, now_us)]
    shares = _shares(awake, model, sample)
    turns = []
    for deployment in (*awake, *(d for d in model.deployments if d not in awake)):
        resting_until_us = standing.resting_until_us(deployment.id, now_us)
        obstacle = find_obstacle(deployment, sample) or ("rests" if resting_until_us else "")
        turns.append(
            Turn(
                deployment=deployment,
                position=None if obstacle else awake.index(deployment) + 1,
                obstacle=obstacle,
                share_percent=shares.get(deployment.id, 0),
                cost_nanousd=cost_of(deployment, sample.size),
                latency_seconds=standing.latency_of(deployment.id, now_us),
                resting_until_us=resting_until_us,
            )
        )
    return turns


def find_obstacle(deployment: DeploymentEntry, sample: Sample) -> str:
    """Return what keeps a deployment from such a call, whatever its health; empty: nothing."""
    if sample.environment == "test" and not deployment.upstream.is_test:
        return "costs money: test keys do not reach it"
    missing = first_missing(sample.needs, deployment.capabilities)
    if missing is not None:
        return f"cannot: {DESCRIPTIONS[missing].label}"
    return "" if sample.wish.allows(deployment) else "left out by 'provider'"


def _shares(awake: Sequence[DeploymentEntry], model: ModelEntry, sample: Sample) -> dict[int, int]:
    if not awake:
        return {}
    if (sample.wish.sort or model.routing) is not Routing.WEIGHTS:
        return {awake[0].id: 100}
    group = [d for d in awake if d.priority == awake[0].priority]
    total = sum(d.weight for d in group)
    return {d.id: round(100 * d.weight / total) for d in group} if total else {awake[0].id: 100}

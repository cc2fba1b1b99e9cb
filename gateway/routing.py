"""In which order the deployments of a model are tried. Pure: from what is configured, asked for and known of health."""

import math
from collections.abc import Callable, Sequence
from random import random
from typing import Any, NamedTuple

from gateway.breakers import Standing
from gateway.catalogue import DeploymentEntry, ModelEntry
from gateway.errors import BodyInvalid
from gateway.models import Routing

_MOST_MODELS = 5
_MOST_NAMES = 20
_SORTS = {"price": Routing.COST, "latency": Routing.LATENCY, "weight": Routing.WEIGHTS}
_WISHES = ("only", "ignore", "order", "regions", "sort", "allow_fallbacks")


_NAME_LIST = {"type": "array", "items": {"type": "string", "maxLength": 120}, "maxItems": _MOST_NAMES}
# Our own parameters in the OpenAPI document.
OWN_SCHEMAS: dict[str, Any] = {
    "models": {
        **_NAME_LIST,
        "maxItems": _MOST_MODELS,
        "description": "Further models that the key may use, tried in order when `model` cannot answer. The dearest is "
        "held for; the one that answered is charged.",
    },
    "provider": {
        "type": "object",
        "additionalProperties": False,
        "description": "Where the call may go, and in which order; names of upstreams are those of `x-upstream`.",
        "properties": {
            "only": _NAME_LIST,
            "ignore": _NAME_LIST,
            "order": _NAME_LIST,
            "regions": _NAME_LIST,
            "sort": {"type": "string", "enum": list(_SORTS)},
            "allow_fallbacks": {"type": "boolean", "default": True},
        },
    },
    "truncation": {
        "type": "string",
        "enum": ["auto", "disabled"],
        "default": "disabled",
        "description": "`auto`: a conversation that does not fit the model's context window loses its oldest turns, "
        "never what system and developer say; `x-truncated-messages` tells how many messages. `disabled`: refused.",
    },
}


class RouteWish(NamedTuple):
    """What a call says about where it goes: `provider` and `models` of its body. It can narrow, and order anew."""

    # Further models, tried in order when the call's own cannot answer.
    models: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    sort: Routing | None = None
    allow_fallbacks: bool = True

    def allows(self, deployment: DeploymentEntry) -> bool:
        """Return whether the call lets itself be carried to a deployment."""
        name = deployment.upstream.name
        if self.only and name not in self.only:
            return False
        return name not in self.ignore and (not self.regions or deployment.region in self.regions)


NO_WISH = RouteWish()


class Weight(NamedTuple):
    """How large a call is, for its cost: upper bounds."""

    input_tokens: int
    output_tokens: int


def take_wish(body: dict[str, Any]) -> RouteWish:
    """Take `provider` and `models` out of a body, which goes upstream without them. Raises BodyInvalid."""
    provider, models = body.pop("provider", None), body.pop("models", None)
    if provider is None and models is None:
        return NO_WISH
    names = _names(models, "models", most=_MOST_MODELS)
    if provider is None:
        return RouteWish(models=names)
    if not isinstance(provider, dict):
        raise BodyInvalid("'provider' must be an object.", param="provider")
    unknown = next((name for name in provider if name not in _WISHES), None)
    if unknown is not None:
        raise BodyInvalid(
            f"'provider.{unknown[:40]}' is not known; known are {', '.join(_WISHES)}.", param=f"provider.{unknown[:40]}"
        )
    sort, may_fall_back = provider.get("sort"), provider.get("allow_fallbacks", True)
    if sort is not None and sort not in _SORTS:
        raise BodyInvalid(f"'provider.sort' must be one of {', '.join(_SORTS)}.", param="provider.sort")
    if not isinstance(may_fall_back, bool):
        raise BodyInvalid("'provider.allow_fallbacks' must be true or false.", param="provider.allow_fallbacks")
    lists = {name: _names(provider.get(name), f"provider.{name}", most=_MOST_NAMES) for name in _WISHES[:4]}
    return RouteWish(models=names, sort=_SORTS[sort] if sort else None, allow_fallbacks=may_fall_back, **lists)


def order_deployments(
    found: Sequence[DeploymentEntry],
    model: ModelEntry,
    wish: RouteWish,
    *,
    size: Weight,
    standing: Standing,
    now_us: int,
    draw: Callable[[], float] = random,
) -> tuple[DeploymentEntry, ...]:
    """Return the deployments in the order in which they are tried.

    Those that the call itself names come first, in its order. Then priorities count, and among deployments of the same
    priority weights, cost or latency. Nothing is left out here: whether one rests is for `gateway.stages.route`.
    """
    sort = wish.sort or model.routing

    def rank(deployment: DeploymentEntry) -> tuple[float, ...]:
        named = (
            wish.order.index(deployment.upstream.name) if deployment.upstream.name in wish.order else len(wish.order)
        )
        # A call that asks for the cheapest or the quickest means of all.
        priority = 0 if wish.sort else deployment.priority
        return (named, priority, *_merit(deployment, sort, size, standing, now_us, draw))

    return tuple(sorted(found, key=rank))


def cost_of(deployment: DeploymentEntry, size: Weight) -> int | None:
    """Return what a call of that size costs us at most at a deployment, in nano-USD; None where nobody has said."""
    if deployment.input_cost_nanousd is None or deployment.output_cost_nanousd is None:
        return None
    total = deployment.input_cost_nanousd * size.input_tokens + deployment.output_cost_nanousd * size.output_tokens
    return total // 1_000_000


def _merit(  # noqa: PLR0917 - one call, a line above
    deployment: DeploymentEntry,
    sort: Routing,
    size: Weight,
    standing: Standing,
    now_us: int,
    draw: Callable[[], float],
) -> tuple[float, ...]:
    """Return what sorts deployments of one priority: the smaller, the earlier."""
    if sort is Routing.COST:
        cost = cost_of(deployment, size)
        return (math.inf if cost is None else cost, deployment.id)
    if sort is Routing.LATENCY:
        # Who is not known yet goes first, and is known then.
        seconds = standing.latency_of(deployment.id, now_us)
        return (-1.0 if seconds is None else seconds, deployment.id)
    if deployment.weight == 0:
        return (math.inf, deployment.id)
    # Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006): the order of these figures is that of
    # drawing by weight without putting back.
    return (-math.log(1.0 - draw()) / deployment.weight, deployment.id)


def _names(value: Any, param: str, *, most: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) and 0 < len(item) <= 120 for item in value):
        raise BodyInvalid(f"'{param}' must be a list of names.", param=param)
    if len(value) > most:
        raise BodyInvalid(f"'{param}' may have at most {most} names.", param=param)
    return tuple(value)

"""Which models can be called right now, and what keeps the others from it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connection
from django.db.models import Count, Q

from billing.pricing import Price, read_price_book
from common.clock import to_us
from common.sql import Sql
from gateway.models import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a model needs to be called: to be active, a price in force, and a way to be served."""

    model_id: int
    name: str
    is_active: bool
    # Active deployments on active upstreams.
    deployments: int
    price: Price | None

    @property
    def is_callable(self) -> bool:
        return self.is_active and self.price is not None and self.deployments > 0

    @property
    def obstacles(self) -> list[str]:
        """Return what is missing, one sentence each; nothing for a model that was switched off."""
        if not self.is_active:
            return []
        found = []
        if self.price is None:
            found.append("no price in force: calls are refused")
        if self.deployments == 0:
            found.append("no active deployment: nothing serves it")
        return found


def read_readiness(model_ids: Collection[int] | None = None, *, now: datetime | None = None) -> dict[int, Readiness]:
    """Return the readiness of models (default: all) by id, in two queries."""
    moment_us = to_us(now or datetime.now(UTC))
    models = Model.objects.order_by("name", "id")
    if model_ids is not None:
        models = models.filter(pk__in=model_ids)
    serving = Q(deployments__is_active=True, deployments__upstream__is_active=True)
    rows = models.annotate(serving=Count("deployments", filter=serving)).values_list(
        "pk", "name", "is_active", "serving"
    )
    prices = read_price_book(Sql(connection))
    return {
        pk: Readiness(
            model_id=pk,
            name=name,
            is_active=is_active,
            deployments=deployments,
            price=prices.find_price(name, moment_us),
        )
        for pk, name, is_active, deployments in rows
    }


def find_callable_models() -> list[str]:
    """Return the names of the models that a key could call now."""
    return [readiness.name for readiness in read_readiness().values() if readiness.is_callable]

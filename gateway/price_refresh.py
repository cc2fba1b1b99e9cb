"""Bringing prices up to what providers charge: first as a plan that can be read, then as new price versions.

A model's provider is known by where its deployments' upstreams are, its price by the name it has there. What customers
pay stays as it is unless a margin is named; a model without any price gets the provider's own (plus the margin).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db import connection, transaction

from billing.bands import columns_of
from billing.models import PriceVersion
from billing.price_diff import RateChange, diff_prices
from billing.price_source import SourcedPrice, find_sourced_price
from billing.pricing import Price, draft_price, publish_price, read_price_book
from billing.rates import WHOLE_BASIS_POINTS
from common.clock import to_us
from common.errors import NotFound
from common.sql import Sql
from gateway.models import Deployment, Dialect, Model


class Outcome(StrEnum):
    """What a refresh has to say of a model."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    # Nobody sells it: it runs here, or the data does not know it.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRefresh:
    """What would become of one model's price; `draft` is what would be published."""

    model: str
    outcome: Outcome
    # Provider and model of the data, or why there is none.
    source: str
    changes: tuple[RateChange, ...] = ()
    notes: tuple[str, ...] = ()
    draft: Price | None = None


def plan_refresh(
    *,
    now: datetime,
    models: Collection[str] = (),
    sources: Mapping[str, str] | None = None,
    margin_basis_points: int | None = None,
) -> list[ModelRefresh]:
    """Return what a refresh would do to each active model (or to `models`), by name. Changes nothing.

    `sources` names "provider/model" of the data for models whose upstream does not tell. With a margin, customers pay
    the provider's price plus that; None leaves what they pay. Raises NotFound for an unknown name.
    """
    rows = Model.objects.filter(is_active=True).order_by("name")
    if models:
        rows = rows.filter(name__in=models)
        missing = sorted(set(models) - set(rows.values_list("name", flat=True)))
        if missing:
            raise NotFound(f"There is no active model '{missing[0]}'; `GET /v1/models` lists them.")
    book = read_price_book(Sql(connection))
    plans = []
    for row in rows:
        found, why = _find_source(row, (sources or {}).get(row.name), now)
        if found is None:
            plans.append(ModelRefresh(model=row.name, outcome=Outcome.UNKNOWN, source=why))
        else:
            plans.append(_plan(row.name, found, book.find_version(row.name, to_us(now)), margin_basis_points))
    return plans


def apply_refresh(plans: Collection[ModelRefresh], *, author: str) -> list[PriceVersion]:
    """Publish what a plan says, all or nothing, in force from now on; return the new versions."""
    published = []
    with transaction.atomic():
        for plan in plans:
            if plan.draft is None or plan.outcome is Outcome.SAME:
                continue
            rates, bands = columns_of(plan.draft.table, plan.draft.provider_table)
            published.append(
                publish_price(
                    model=plan.model, rates=rates, bands=bands, author=author, reason=f"Refreshed from {plan.source}"
                )
            )
    return published


def _plan(model: str, found: SourcedPrice, in_force: Price | None, margin_basis_points: int | None) -> ModelRefresh:
    table = found.table
    if margin_basis_points is not None:
        table = table.scaled(WHOLE_BASIS_POINTS + margin_basis_points)
    elif in_force is not None:
        table = in_force.table
    rates, bands = columns_of(table, found.table)
    draft = draft_price(model, rates, bands)
    changes = tuple(diff_prices(in_force, draft))
    outcome = Outcome.NEW if in_force is None else Outcome.CHANGED if changes else Outcome.SAME
    return ModelRefresh(
        model=model,
        outcome=outcome,
        source=f"{found.provider}/{found.model}",
        changes=changes,
        notes=found.notes,
        draft=draft,
    )


def _find_source(model: Model, named: str | None, now: datetime) -> tuple[SourcedPrice | None, str]:
    """Return the price of the first deployment that the data knows, or why there is none."""
    if named is not None:
        provider, _, name = named.partition("/")
        found = find_sourced_price(name, provider=provider, at=now)
        return found, f"the data knows no '{name}' of a provider '{provider}'"
    deployments = Deployment.objects.filter(model=model, is_active=True).select_related("upstream")
    reasons = []
    for deployment in deployments.order_by("priority", "id"):
        upstream = deployment.upstream
        if upstream.dialect == Dialect.LOCAL:
            reasons.append(f"{upstream.name} runs here, nobody sells it")
            continue
        found = find_sourced_price(deployment.upstream_model, base_url=upstream.base_url, at=now)
        if found is not None:
            return found, ""
        reasons.append(f"the data knows no '{deployment.upstream_model}' at {upstream.base_url}")
    return None, "; ".join(reasons) or "no active deployment"

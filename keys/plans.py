"""The plans that every installation begins with. They are data: change or remove them as you like."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.money import parse_usd
from keys.audit import Actor, action_on, record_event
from keys.models import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPlan:
    """A plan as it is first written."""

    slug: str
    columns: Mapping[str, object]


SEED_PLANS = (
    SeedPlan(
        slug="free",
        columns={
            "name": "Free",
            "description": "For trying things out.",
            "is_paid": False,
            "requests_per_minute": 20,
            "input_tokens_per_minute": 40_000,
            "output_tokens_per_minute": 10_000,
            "embeddings_requests_per_minute": 20,
            "embeddings_input_tokens_per_minute": 40_000,
            "search_requests_per_minute": 20,
            "search_input_tokens_per_minute": 40_000,
            "control_requests_per_minute": 60,
            "concurrency": 2,
            "max_input_tokens": 32_000,
            "spend_per_day_nanousd": parse_usd("1"),
            "spend_per_month_nanousd": parse_usd("5"),
            "spend_total_nanousd": parse_usd("25"),
        },
    ),
    SeedPlan(
        slug="pro",
        columns={
            "name": "Pro",
            "description": "For products in use.",
            "requests_per_minute": 600,
            "input_tokens_per_minute": 2_000_000,
            "output_tokens_per_minute": 500_000,
            "embeddings_requests_per_minute": 600,
            "embeddings_input_tokens_per_minute": 4_000_000,
            "search_requests_per_minute": 600,
            "search_input_tokens_per_minute": 2_000_000,
            "control_requests_per_minute": 600,
            "concurrency": 50,
            "spend_per_day_nanousd": parse_usd("200"),
            "spend_per_month_nanousd": parse_usd("2000"),
        },
    ),
    SeedPlan(
        slug="enterprise",
        columns={
            "name": "Enterprise",
            "description": "High limits; budgets are agreed customer by customer.",
            "requests_per_minute": 10_000,
            "input_tokens_per_minute": 40_000_000,
            "output_tokens_per_minute": 10_000_000,
            "embeddings_requests_per_minute": 10_000,
            "embeddings_input_tokens_per_minute": 80_000_000,
            "search_requests_per_minute": 10_000,
            "search_input_tokens_per_minute": 40_000_000,
            "control_requests_per_minute": 3_000,
            "concurrency": 1_000,
        },
    ),
)


def ensure_plans(*, actor: Actor) -> dict[str, Plan]:
    """Make the seed plans that are missing and return all of them by slug; those that exist stay as they are."""
    plans = {}
    for seed in SEED_PLANS:
        plan, is_new = Plan.objects.get_or_create(slug=seed.slug, defaults=dict(seed.columns))
        if is_new:
            record_event(actor=actor, action=action_on(plan, "created"), target=plan, after=seed.columns)
        plans[seed.slug] = plan
    return plans


def seed_plans_after_migrate(*, using: str, apps: Any = None, plan: Any = (), **_: Any) -> None:
    """Write the seed plans when this app's tables were migrated and hold no plan (receiver of `post_migrate`).

    Not a migration: those would have to write each new column of theirs. Nobody did this, so no trail tells of it.
    `plan` is the list of (migration, whether it was undone), `apps` the state that they led to.
    """
    has_moved_on = any(migration.app_label == "keys" and not is_undone for migration, is_undone in plan)
    if not has_moved_on or apps is None:
        return
    model = apps.get_model("keys", "Plan")
    columns = {field.name for field in model._meta.get_fields()}
    plans = model.objects.using(using)
    if not plans.exists():
        for seed in SEED_PLANS:
            # An old state, migrated to by name, has fewer columns.
            known = {name: value for name, value in seed.columns.items() if name in columns}
            plans.create(slug=seed.slug, **known)

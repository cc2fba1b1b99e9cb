"""An installation begins with plans; they are data, and what an administrator made of them stays."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps

from keys.audit import SYSTEM
from keys.limit_values import LIMIT_COLUMNS, allowed_values
from keys.models import AuditEvent, Plan
from keys.plans import SEED_PLANS, ensure_plans, seed_plans_after_migrate

pytestmark = pytest.mark.django_db

SLUGS = {"free", "pro", "enterprise"}


def _migrate(app_label: str = "keys", *, is_undone: bool = False) -> None:
    plan: Any = [(SimpleNamespace(app_label=app_label), is_undone)]
    seed_plans_after_migrate(using="default", apps=apps, plan=plan)


def test_a_new_installation_has_the_three_plans() -> None:
    _migrate()
    assert set(Plan.objects.values_list("slug", flat=True)) == SLUGS
    assert not Plan.objects.get(slug="free").is_paid


def test_an_installation_with_a_plan_gets_none() -> None:
    Plan.objects.create(slug="ours", name="Ours")
    _migrate()
    assert Plan.objects.count() == 1


@pytest.mark.parametrize(("app_label", "is_undone"), [("billing", False), ("keys", True)])
def test_other_migrations_bring_no_plan(app_label: str, is_undone: bool) -> None:
    _migrate(app_label, is_undone=is_undone)
    assert not Plan.objects.exists()


def test_the_demonstration_adds_what_is_missing_and_leaves_what_is_there() -> None:
    Plan.objects.create(slug="pro", name="Changed", requests_per_minute=7)
    ensure_plans(actor=SYSTEM)
    ensure_plans(actor=SYSTEM)
    assert set(Plan.objects.values_list("slug", flat=True)) == SLUGS
    assert Plan.objects.get(slug="pro").requests_per_minute == 7
    assert AuditEvent.objects.filter(action="plan.created").count() == 2


def test_every_seeded_limit_is_one_that_its_column_may_hold() -> None:
    for seed in SEED_PLANS:
        for column in seed.columns.keys() & set(LIMIT_COLUMNS):
            assert seed.columns[column] in allowed_values(column), (seed.slug, column)

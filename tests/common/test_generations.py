"""Whoever changes what the request path keeps as a snapshot, by whatever means, raises its generation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count

import pytest
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connection, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from billing.models import PriceTerms, PriceVersion
from billing.terms import publish_terms
from common.generations import GENERATIONS, snapshot_models
from common.models import Generation
from gateway.cache_models import CachePurge, PurgeScope
from gateway.caching.purging import purge_answers
from gateway.guard_models import GuardAssignment, GuardPolicy, GuardRule
from gateway.models import Breaker, Deployment, Model, Upstream, Worker
from keys.flagging import set_feature
from keys.issuing import revoke_key
from keys.models import ApiKey, Customer, FeatureRule, LimitRaise, LimitState, Plan
from prompts.authoring import deprecate_version
from prompts.models import Label, Prompt, PromptVersion, VersionDeprecation
from tests.factories import (
    make_customer,
    make_guard,
    make_key,
    make_model,
    make_plan,
    make_price,
    make_raise,
    make_upstream,
)
from tests.prompting import make_prompt, make_released

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

# A column of each table that may be written again and again.
WATCHED: dict[type[models.Model], str] = {
    Upstream: "note",
    Model: "description",
    Deployment: "upstream_model",
    Plan: "description",
    Customer: "note",
    ApiKey: "name",
    Prompt: "description",
    Label: "name",
    VersionDeprecation: "note",
    LimitRaise: "reason",
    FeatureRule: "reason",
    Breaker: "error_code",
    GuardPolicy: "name",
    GuardRule: "pattern",
    CachePurge: "subject",
}
_values = (f"value {number}" for number in count())
_numbers = count()


def _read() -> dict[str, int]:
    return dict(Generation.objects.values_list("name", "value"))


def make_rule() -> None:
    set_feature(feature="uniform_names", is_on=True, reason="for a test")


def make_breaker() -> None:
    deployment = make_model().deployments.get()
    Breaker.objects.create(deployment=deployment, is_open=True, reason="failures", changed_us=1)


def make_purge() -> None:
    purge_answers(PurgeScope.MODEL, make_model().name, reason="for a test", author="tests")


@contextmanager
def raised(model: type[models.Model]) -> Iterator[None]:
    """Check that the body raises the generation of `model`."""
    name = next(m.generation for m in snapshot_models() if m is model)
    before = _read()
    yield
    assert _read()[name] > before[name]


@contextmanager
def nothing_raised() -> Iterator[None]:
    before = _read()
    yield
    assert _read() == before


def make_any_guard() -> None:
    make_guard({"kind": "pii", "action": "flag"}, plan_id=make_plan().pk)


def _run_sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _fill() -> None:
    make_any_guard()
    make_breaker()
    make_purge()
    make_key()
    deprecate_version(version_id=make_released(f"prompt-{next(_numbers)}").pk, author="tests")
    make_raise(make_customer(limits={"concurrency": 1}), "concurrency", 2)
    make_rule()


def test_the_watched_tables_are_those_that_snapshots_hold() -> None:
    assert set(snapshot_models()) == {*WATCHED, GuardAssignment, PriceVersion, PriceTerms, PromptVersion}
    assert set(_read()) == set(GENERATIONS)


@pytest.mark.parametrize(
    ("model", "make"),
    [
        (FeatureRule, make_rule),
        (Upstream, make_upstream),
        (Model, make_model),
        (Deployment, make_model),
        (PriceVersion, lambda: make_price("some-model")),
        (PriceTerms, lambda: publish_terms(plan_id=make_plan().pk, markup_basis_points=500, author="tests")),
        (Plan, make_plan),
        (LimitRaise, lambda: make_raise(make_customer(limits={"concurrency": 1}), "concurrency", 2)),
        (Customer, make_customer),
        (ApiKey, make_key),
        (Prompt, make_prompt),
        (PromptVersion, lambda: make_released("a-prompt")),
        (Label, lambda: make_released("a-prompt")),
        (Breaker, make_breaker),
        (GuardPolicy, make_guard),
        (GuardRule, make_any_guard),
        (GuardAssignment, make_any_guard),
        (CachePurge, make_purge),
    ],
)
def test_a_new_row_raises_it(model: type[models.Model], make: Callable[[], object]) -> None:
    with raised(model):
        make()


@pytest.mark.parametrize(("model", "column"), WATCHED.items())
def test_every_way_of_the_orm_raises_it(model: type[models.Model], column: str) -> None:
    _fill()
    manager = model._default_manager
    row = manager.latest("pk")
    with raised(model):
        setattr(row, column, next(_values))
        row.save()
    with raised(model):
        setattr(row, column, next(_values))
        row.save(update_fields=[column])
    with raised(model):
        manager.update(**{column: next(_values)})
    with raised(model):
        setattr(row, column, next(_values))
        manager.bulk_update([row], [column])


@pytest.mark.parametrize("model", [Model, Deployment, ApiKey, GuardAssignment])
def test_deleting_raises_it(model: type[models.Model]) -> None:
    _fill()
    with raised(model):
        model._default_manager.latest("pk").delete()
    _fill()
    with raised(model):
        model._default_manager.all().delete()


def test_a_bulk_insert_raises_it() -> None:
    with raised(Upstream):
        Upstream.objects.bulk_create([Upstream(name="another", base_url="http://127.0.0.1:9")])


@pytest.mark.parametrize(("model", "column"), WATCHED.items())
def test_sql_by_hand_raises_it(model: type[models.Model], column: str) -> None:
    _fill()
    with raised(model):
        _run_sql(f"UPDATE {model._meta.db_table} SET {column} = '{next(_values)}'")


def test_a_revocation_raises_it() -> None:
    issued = make_key()
    with raised(ApiKey):
        revoke_key(key_id=issued.key.pk, reason="leaked")


def test_the_traffic_of_calls_raises_nothing() -> None:
    issued = make_key()
    with nothing_raised():
        ApiKey.objects.filter(pk=issued.key.pk).update(last_used_at=datetime.now(UTC), last_used_address="127.0.0.1")
        LimitState.objects.create(owner="key:1")
        Worker.objects.create(host="here", pid=1, started_us=0, lease_until_us=0)


@pytest.mark.parametrize(("model", "column"), WATCHED.items())
def test_a_migrate_reinstalls_lost_triggers_and_lost_rows(model: type[models.Model], column: str) -> None:
    _fill()
    table = model._meta.db_table
    if connection.vendor == "sqlite":
        for event in ("insert", "update", "delete"):
            _run_sql(f"DROP TRIGGER {table}_generation_{event}")
    else:
        for suffix in ("", "_update"):
            _run_sql(f"DROP TRIGGER {table}_generation{suffix} ON {table}")
    Generation.objects.all().delete()
    call_command("migrate", verbosity=0)
    with raised(model):
        model._default_manager.update(**{column: next(_values)})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", [*WATCHED, PriceVersion, PromptVersion])
def test_the_triggers_are_not_in_the_way_of_a_later_migration(model: type[models.Model]) -> None:
    extra = models.CharField(max_length=10, default="")
    longer = models.CharField(max_length=20, default="")
    for field in (extra, longer):
        field.set_attributes_from_name("later")
        field.model = model
    with _migrating() as editor:
        editor.add_field(model, extra)
    with _migrating() as editor:
        editor.alter_field(model, extra, longer)
    with _migrating() as editor:
        editor.remove_field(model, longer)
    if model not in (PriceVersion, PromptVersion):
        _fill()
        with raised(model):
            model._default_manager.update(**{WATCHED[model]: next(_values)})


@contextmanager
def _migrating() -> Iterator[BaseDatabaseSchemaEditor]:
    """Do around a change of the schema what `migrate` does around migrations."""
    emit_pre_migrate_signal(verbosity=0, interactive=False, db="default")
    try:
        with connection.schema_editor() as editor:
            yield editor
    finally:
        emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


def test_a_migrate_makes_every_process_read_again() -> None:
    before = _read()
    call_command("migrate", verbosity=0)
    assert all(_read()[name] > value for name, value in before.items())

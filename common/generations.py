"""Generations: numbers that the database raises on any change to what the request path keeps as a snapshot.

"catalogue" covers models, upstreams and prices, "principals" covers keys, customers and plans, "health" covers which
deployments rest. Admission reads the numbers in each of its transactions and refreshes what moved. Triggers raise them,
so that a change made in admin, by a command, in a shell or by hand in SQL counts on every process from the next call
on.
"""

from pathlib import Path
from typing import ClassVar

from django.apps import apps
from django.db import models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

_SQL = Path(__file__).parent / "sql"
GENERATIONS = ("catalogue", "principals", "health")


class SnapshotModel(models.Model):
    """Base of rows that the request path reads through a snapshot."""

    generation: ClassVar[str]
    # Columns that no snapshot holds: writing only them raises nothing.
    unwatched_columns: ClassVar[frozenset[str]] = frozenset()

    class Meta:
        abstract = True


class CatalogueModel(SnapshotModel):
    """Base of what can be called and what it costs."""

    generation = "catalogue"

    class Meta:
        abstract = True


class PrincipalModel(SnapshotModel):
    """Base of who may call."""

    generation = "principals"

    class Meta:
        abstract = True


class HealthModel(SnapshotModel):
    """Base of what is known of upstreams at the moment: it moves by itself, and ends no plan of a call."""

    generation = "health"

    class Meta:
        abstract = True


def snapshot_models() -> list[type[SnapshotModel]]:
    """Return all models that are read through snapshots."""
    return [model for model in apps.get_models() if issubclass(model, SnapshotModel)]


def install_triggers(connection: BaseDatabaseWrapper, watched: list[type[SnapshotModel]]) -> None:
    """Put the raising triggers on the tables of `watched` that exist; safe to repeat, also while others write."""
    present = set(connection.introspection.table_names())
    if "common_generation" not in present:
        return
    template = (_SQL / f"generation.{connection.vendor}.sql").read_text(encoding="utf-8")
    for model in watched:
        if model._meta.db_table not in present:
            continue
        names = (str(field.column) for field in model._meta.concrete_fields)
        columns = [name for name in names if name not in model.unwatched_columns]
        statements = (
            template.replace("{table}", model._meta.db_table)
            .replace("{generation}", model.generation)
            .replace("{columns}", ", ".join(columns))
            .replace("{unwatched_columns}", ",".join(sorted(model.unwatched_columns)))
        )
        # One transaction a table: there is no moment at which a change could slip past a trigger being replaced.
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            for statement in statements.split("-- next\n"):
                cursor.execute(statement)


def lift_triggers(connection: BaseDatabaseWrapper, watched: list[type[SnapshotModel]]) -> None:
    """Take the triggers that name columns off for a migration: SQLite refuses to drop a column that one names.

    Whoever lifts them has to install them afterwards and raise the generations, for what happened in between.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for model in watched:
                cursor.execute(f"DROP TRIGGER IF EXISTS {model._meta.db_table}_generation_update")

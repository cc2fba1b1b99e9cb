"""Reinstalls what the database itself guards (append-only tables, generations) after every migrate."""

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models import F

from common import append_only, generations
from common.models import Generation


def lift_before_migrate(sender: AppConfig, using: str, **_: Any) -> None:
    """Take off what would keep a migration from changing the app's tables (receiver of `pre_migrate`)."""
    generations.lift_triggers(connections[using], _watched_models(sender))
    append_only.lift_guards(connections[using], sender.label)


def reinstall_after_migrate(sender: AppConfig, using: str, **_: Any) -> None:
    """Put the triggers on the tables of the app that was just migrated (receiver of `post_migrate`)."""
    connection = connections[using]
    tables = {model._meta.db_table for model in sender.get_models()}
    if sender.name == "common":
        for name in generations.GENERATIONS:
            Generation.objects.using(using).get_or_create(name=name)
        # A migration may have changed what snapshots hold while no trigger looked.
        Generation.objects.using(using).update(value=F("value") + 1)
    append_only.install_triggers(connection, sorted(tables & set(append_only.append_only_tables())))
    generations.install_triggers(connection, _watched_models(sender))


def _watched_models(sender: AppConfig) -> list[type[generations.SnapshotModel]]:
    return [model for model in generations.snapshot_models() if model._meta.app_label == sender.label]

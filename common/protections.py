"""Reinstalls what the database itself guards (append-only tables, catalogue generation) after every migrate."""

from typing import Any

from django.apps import AppConfig
from django.db import connections

from common import append_only, catalogue
from common.models import Generation


def reinstall_after_migrate(sender: AppConfig, using: str, **_: Any) -> None:
    """Put the triggers on the tables of the app that was just migrated (receiver of `post_migrate`)."""
    connection = connections[using]
    tables = {model._meta.db_table for model in sender.get_models()}
    if sender.name == "common":
        Generation.objects.using(using).get_or_create(name="catalogue")
    append_only.install_triggers(connection, sorted(tables & set(append_only.append_only_tables())))
    catalogue.install_triggers(connection, sorted(tables & set(catalogue.catalogue_tables())))

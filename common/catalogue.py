"""The generation of the catalogue: a number that the database raises on any change to models, upstreams or prices.

Every process keeps the catalogue as a frozen snapshot; admission reads the number in each of its transactions
and refreshes the snapshot when it moved. Triggers raise it, so that a change made in admin, by a command, in a
shell or by hand in SQL is live on every process at the next call.
"""

from pathlib import Path

from django.apps import apps
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

_SQL = Path(__file__).parent / "sql"


class CatalogueModel(models.Model):
    """Base of rows that the request path reads through the snapshot."""

    class Meta:
        abstract = True


def catalogue_tables() -> list[str]:
    """Return the table names of all catalogue models, sorted."""
    return sorted(m._meta.db_table for m in apps.get_models() if issubclass(m, CatalogueModel))


def install_triggers(connection: BaseDatabaseWrapper, tables: list[str]) -> None:
    """Put the raising triggers on `tables` that exist; safe to repeat."""
    present = set(connection.introspection.table_names())
    if "common_generation" not in present:
        return
    template = (_SQL / f"catalogue.{connection.vendor}.sql").read_text(encoding="utf-8")
    with connection.cursor() as cursor:
        for table in tables:
            if table in present:
                for statement in template.replace("{table}", table).split("-- next\n"):
                    cursor.execute(statement)

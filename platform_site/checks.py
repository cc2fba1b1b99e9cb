"""System checks that refuse a combination which would lie to its operator."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from common.append_only import find_unprotected_tables


@register
def check_workers_share_state(**_: Any) -> list[CheckMessage]:
    """Refuse several server processes on state that only one process can see."""
    environment = settings.ENVIRONMENT
    if environment.workers == 1:
        return []
    found: list[CheckMessage] = []
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        found.append(
            Error(
                f"WORKERS={environment.workers} on SQLite",
                hint="Set DATABASE_URL to PostgreSQL, or WORKERS=1.",
                id="tollkeeper.E001",
            )
        )
    if not environment.redis_url:
        found.append(
            Error(
                f"WORKERS={environment.workers} with an in-process channel layer and cache",
                hint="Set REDIS_URL, or WORKERS=1.",
                id="tollkeeper.E002",
            )
        )
    return found


@register(Tags.database)
def check_ledger_is_protected(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Refuse to work on ledger tables whose append-only triggers are missing (asked after `migrate`)."""
    found: list[CheckMessage] = []
    for alias in databases or []:
        connection = connections[alias]
        present = set(connection.introspection.table_names())
        found += [
            Error(
                f"Table {table} has lost its append-only triggers",
                hint="Run 'manage.py migrate': it reinstalls them.",
                id="tollkeeper.E003",
            )
            for table in find_unprotected_tables(connection)
            if table in present
        ]
    return found

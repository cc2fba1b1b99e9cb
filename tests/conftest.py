"""What every test stands on: its own data directory and database, no network but loopback, and a clerk.

The database is a SQLite file, or PostgreSQL by DATABASE_URL. A test that crosses the clerk (its own thread, its own
connection) needs real transactions: mark it `django_db(transaction=True)` or ask for the `clerk` fixture. What such a
test leaves is removed by `_empty_tables` below, which alone may lift the append-only triggers.
"""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection, connections, transaction
from django.test import TransactionTestCase
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from common import append_only
from common.clock import FrozenClock
from common.generations import GENERATIONS
from common.ids import make_id
from common.models import Generation
from gateway.admission.clerk import Clerk
from keys.models import Plan

# Saturday, 2026-11-21 12:00 UTC: no test crosses a day or month unless it means to.
NOON_US = 1_795_262_400_000_000
# Rows that come from migrations and post_migrate; content types and permissions are never changed by a test.
_KEPT_TABLES = {
    "django_migrations",
    "django_content_type",
    "auth_permission",
    "auth_group",
    "auth_group_permissions",
    "common_generation",
}

# One database serves all examples of a test, each with customers of its own, so the fixture need not be renewed; the
# first example pays for imports, so no example has a deadline.
hypothesis_settings.register_profile(
    "tollkeeper", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
hypothesis_settings.load_profile("tollkeeper")


def _use_own_data_directory() -> Path | None:
    """Point settings and child processes to a temporary DATA_DIR, unless the environment names one.

    pytest-django has loaded the settings by now, so they are changed in place; workers of xdist start after this and
    inherit the directory of the process that made it.
    """
    if os.environ.get("DATA_DIR"):
        return None
    directory = Path(tempfile.mkdtemp(prefix="tollkeeper-tests-"))
    os.environ["DATA_DIR"] = str(directory)
    settings.DATA_DIR = directory
    settings.STATIC_ROOT = directory / "static"
    test_options = settings.DATABASES["default"].get("TEST", {})
    if test_options.get("NAME"):
        test_options["NAME"] = str(directory / "test.sqlite3")
    return directory


_own_data_directory = _use_own_data_directory()


def _open_doors() -> None:
    """Let the tests, all of one address, fail as often as they like, and log in with a password alone.

    The tests of the limits and of the second factor set their own.
    """
    os.environ["ADMIN_SECOND_FACTOR"] = "optional"
    settings.ADMIN_SECOND_FACTOR = "optional"
    for name in ("FAILED_ATTEMPTS_PER_MINUTE", "ANONYMOUS_REQUESTS_PER_MINUTE"):
        os.environ[name] = "0"
        setattr(settings, name, 0)


_open_doors()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Begin without the plans that every installation begins with: a test makes what it speaks of."""
    with django_db_blocker.unblock():
        Plan.objects.all().delete()


def pytest_unconfigure() -> None:
    if _own_data_directory is not None:
        shutil.rmtree(_own_data_directory, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def _no_network_but_loopback() -> Iterator[None]:
    """Refuse connections that leave the machine: a test that needs a provider is a test of the provider."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    yield
    patch.undo()


def _guarded(connect: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        is_internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if is_internet and not str(address[0]).startswith("127.") and address[0] not in ("localhost", "::1"):
            raise RuntimeError(f"tests may not connect to {address!r}: the network is off but for loopback")
        return connect(self, address)

    return guarded


# ---- the database


def _empty_tables(_: TransactionTestCase) -> None:
    """Remove what a test with real transactions has left, in place of Django's flush.

    The flush would be refused by the append-only triggers, and would take the rows of migrations with it. Deleting
    from the few tables that have rows is also ten times faster than truncating all of them.
    """
    quote = connection.ops.quote_name
    tables = sorted(set(connection.introspection.table_names()) - _KEPT_TABLES)
    with connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {quote(table)})" for table in tables)
        )
        filled = [row[0] for row in cursor.fetchall()]
    protected = sorted(set(filled) & set(append_only.append_only_tables()))
    with transaction.atomic():
        append_only.remove_triggers(connection, protected)
        with connection.cursor() as cursor:
            for table in filled:
                cursor.execute(f"DELETE FROM {quote(table)}")
            if connection.vendor == "postgresql":
                # A table with deferred checks outstanding takes no new trigger.
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        append_only.install_triggers(connection, protected)
        for name in GENERATIONS:
            Generation.objects.get_or_create(name=name)


@pytest.fixture(autouse=True, scope="session")
def _flush_past_the_triggers() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(TransactionTestCase, "_fixture_teardown", _empty_tables)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _fresh_cache() -> None:
    """What a test caches is its own: no other one, nor an earlier run on the same Redis, is answered from it."""
    cache.key_prefix = make_id("cache")


@pytest.fixture
def child_environment(transactional_db: None) -> dict[str, str]:
    """Return the environment of a child process that shall work on this test's database with the same secrets."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        url = f"sqlite:///{database['NAME']}"
    else:
        password = f":{database['PASSWORD']}" if database["PASSWORD"] else ""
        address = f"{database['HOST'] or '127.0.0.1'}:{database['PORT'] or 5432}"
        url = f"postgres://{database['USER']}{password}@{address}/{database['NAME']}"
    return {
        **os.environ,
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "platform_site.settings",
        "PYTHONPATH": str(settings.BASE_DIR),
        "SECRET_KEY": settings.SECRET_KEY,
        "KEY_PEPPERS": ",".join(settings.KEY_PEPPERS),
        "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
    }


@pytest.fixture
def off_loop() -> Callable[..., Awaitable[Any]]:
    """Return `await off_loop(function, ...)`: run database code of an async test in a thread."""

    async def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def call() -> Any:
            try:
                return function(*args, **kwargs)
            finally:
                connections.close_all()

        return await asyncio.to_thread(call)

    return run


# ---- time and admission


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOON_US)


@pytest.fixture
async def clerk(transactional_db: None) -> AsyncIterator[Clerk]:
    """Return a clerk that runs in the test's loop, on the machine's clock."""
    running = Clerk(queue_limit=2_000, batch_limit=256, lease_seconds=15)
    await running.start()
    yield running
    await running.stop(timeout_seconds=5)

"""Databases of servers under test: made from one migrated template, and reached by the tests through the ORM.

A server is another process with a database of its own, so nothing of it is rolled back or shared with the tests that
pytest-django serves. `OwnDatabase.run` runs a function in a thread whose default connection is that database: the
public functions and the factories work there unchanged, from sync and async tests alike.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from django.conf import settings
from django.db import connections
from django.db.utils import load_backend
from pytest_django import DjangoDbBlocker

P = ParamSpec("P")
T = TypeVar("T")

IS_POSTGRESQL = os.environ.get("DATABASE_URL", "").startswith("postgres")


class OwnDatabase:
    """A migrated, empty database that one test server works on."""

    def __init__(self, *, name: str, directory: Path, blocker: DjangoDbBlocker) -> None:
        self._name = name
        self._blocker = blocker
        if IS_POSTGRESQL:
            _administer(f'CREATE DATABASE "{name}" TEMPLATE "{_postgresql_template()}"')
            self.url = _postgresql_url(name)
        else:
            path = directory / f"{name}.sqlite3"
            shutil.copyfile(_sqlite_template(), path)
            self.url = f"sqlite:///{path}"
        self._path = directory / f"{name}.sqlite3"
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name, initializer=self._connect)

    def _connect(self) -> None:
        own = {**connections.settings["default"], "NAME": self._name if IS_POSTGRESQL else str(self._path)}
        connections["default"] = load_backend(own["ENGINE"]).DatabaseWrapper(own, "default")

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` with this database as Django's default one, and return what it returns."""

        def unblocked() -> T:
            with self._blocker.unblock():
                return function(*args, **kwargs)

        return self._thread.submit(unblocked).result()

    def drop(self) -> None:
        """Close the connection and remove the database."""
        self._thread.submit(connections.close_all).result()
        self._thread.shutdown()
        if IS_POSTGRESQL:
            _administer(f'DROP DATABASE IF EXISTS "{self._name}" WITH (FORCE)')


def child_environment(database_url: str, **variables: str) -> dict[str, str]:
    """Return the environment of a `manage.py` process on that database, with the secrets of the tests."""
    return {
        **os.environ,
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "platform_site.settings",
        "SECRET_KEY": settings.SECRET_KEY,
        "KEY_PEPPERS": ",".join(settings.KEY_PEPPERS),
        "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "LOCAL_MODEL": "off",
        **variables,
    }


def manage(database_url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a management command on that database and return how it ended; its output is text."""
    return subprocess.run(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments],
        env=child_environment(database_url, **variables),
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _migrate(database_url: str) -> None:
    done = manage(database_url, "migrate", "--no-input", "--verbosity", "0")
    assert done.returncode == 0, done.stdout + done.stderr


_templates: dict[str, str] = {}


def _sqlite_template() -> str:
    if "sqlite" not in _templates:
        # Every process of a parallel run has the same DATA_DIR, so the name is the process's own.
        path = Path(settings.DATA_DIR) / f"template-{os.getpid()}.sqlite3"
        _migrate(f"sqlite:///{path}")
        _templates["sqlite"] = str(path)
    return _templates["sqlite"]


def _postgresql_template() -> str:
    if "postgresql" not in _templates:
        name = f"tollkeeper_template_{os.getpid()}"
        _administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        _administer(f'CREATE DATABASE "{name}"')
        _templates["postgresql"] = name
        _migrate(_postgresql_url(name))
    return _templates["postgresql"]


def drop_templates() -> None:
    """Remove what the databases were made from."""
    if "postgresql" in _templates:
        _administer(f'DROP DATABASE IF EXISTS "{_templates.pop("postgresql")}" WITH (FORCE)')
    if "sqlite" in _templates:
        Path(_templates.pop("sqlite")).unlink(missing_ok=True)


def _postgresql_url(name: str) -> str:
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(name)}"))


def _administer(statement: str) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(statement.encode())

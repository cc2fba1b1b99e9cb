"""A durable transaction is written whole or not at all, and its connection goes on afterwards."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection

from common.sql import DurableTransaction, Sql
from keys.limit_rows import lock_counters, read_counters, write_counters
from tests.conftest import NOON_US

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """Groups are not emptied between tests: the roles are among them."""
    yield
    Group.objects.filter(name__in=("kept", "dropped")).delete()


def _write(*names: str, is_orphan: bool = False, fails: bool = False) -> None:
    with connection.wrap_database_errors, DurableTransaction(connection):
        sql = Sql(connection)
        for name in names:
            sql.run("INSERT INTO auth_group (name) VALUES (%s)", (name,))
        if is_orphan:
            # Foreign keys are checked at the end of the transaction.
            sql.run("INSERT INTO auth_group_permissions (group_id, permission_id) VALUES (%s, %s)", (-1, -1))
        if fails:
            raise ZeroDivisionError


def _written() -> set[str]:
    return set(Group.objects.filter(name__in=("kept", "dropped")).values_list("name", flat=True))


def test_a_block_that_ends_is_durable_and_one_that_fails_has_written_nothing() -> None:
    _write("kept")
    with pytest.raises(ZeroDivisionError):
        _write("dropped", fails=True)
    connection.close()
    assert _written() == {"kept"}


def test_a_commit_that_the_database_refuses_is_an_error_of_django_s_and_writes_nothing() -> None:
    with pytest.raises(IntegrityError):
        _write("dropped", is_orphan=True)
    _write("kept")
    assert _written() == {"kept"}


def test_an_error_within_writes_nothing_and_the_next_block_works() -> None:
    with pytest.raises(IntegrityError):
        _write("dropped", "dropped")
    _write("kept")
    assert _written() == {"kept"}


def test_what_is_spared_may_fail_alone(caplog: pytest.LogCaptureFixture) -> None:
    with connection.wrap_database_errors, DurableTransaction(connection):
        sql = Sql(connection)
        with sql.sparing("a group"):
            sql.run("INSERT INTO auth_group (name) VALUES (%s)", ("dropped",))
            sql.run("INSERT INTO no_such_table (name) VALUES (%s)", ("x",))
        sql.run("INSERT INTO auth_group (name) VALUES (%s)", ("kept",))
    assert _written() == {"kept"}
    assert "not stored: a group" in caplog.text


def test_a_commit_on_sqlite_is_synced_and_its_pages_are_small() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("what PostgreSQL syncs is its own settings' matter")
    found = {}
    with connection.cursor() as cursor:
        for name in ("journal_mode", "synchronous", "foreign_keys", "recursive_triggers", "page_size"):
            cursor.execute(f"PRAGMA {name}")
            found[name] = cursor.fetchone()[0]
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "recursive_triggers": 1,
        "page_size": 2_048,
    }


@pytest.mark.parametrize("count", [1, 4, 5, 70])
def test_few_counters_and_many_are_changed_alike_and_no_other_one(count: int) -> None:
    names = [f"key:{number}" for number in range(count)]
    with connection.wrap_database_errors, DurableTransaction(connection):
        sql = Sql(connection)
        counters = lock_counters(sql, [*names, "key:other"], NOON_US)
        for number, name in enumerate(names):
            counters[name].in_flight, counters[name].total_posted_nanousd = number + 1, -number
        write_counters(sql, [counters[name] for name in names])
        stored = read_counters(sql, [*names, "key:other"], NOON_US)
    assert stored == counters
    assert stored["key:other"].in_flight == 0


@pytest.mark.parametrize("count", [1, 4, 5, 70])
def test_few_rows_and_many_are_written_alike(count: int) -> None:
    names = [f"row-{number}" for number in range(count)]
    try:
        with connection.wrap_database_errors, DurableTransaction(connection):
            Sql(connection).insert("auth_group", ("name",), [(name,) for name in names])
        assert set(Group.objects.filter(name__in=names).values_list("name", flat=True)) == set(names)
        with pytest.raises(IntegrityError), connection.wrap_database_errors, DurableTransaction(connection):
            Sql(connection).insert("auth_group", ("name",), [("dropped",), (names[0],)])
        assert _written() == set()
    finally:
        Group.objects.filter(name__in=names).delete()

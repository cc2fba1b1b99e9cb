"""One reconciliation: a snapshot of the database, and every check on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from django.db import connection, transaction

from billing.reconciliation.archive_checks import check_archives, check_usage_days
from billing.reconciliation.export_checks import check_exports
from billing.reconciliation.grant_checks import check_grants
from billing.reconciliation.invoice_checks import check_invoices
from billing.reconciliation.ledger_checks import check_accounts, check_holds, check_resolutions, check_triggers
from billing.reconciliation.limit_checks import check_limits
from billing.reconciliation.report import Report
from billing.reconciliation.usage_checks import check_charges, check_costs
from common.sql import Sql

_CHECKS = (
    check_accounts,
    check_resolutions,
    check_holds,
    check_grants,
    check_costs,
    check_charges,
    check_archives,
    check_usage_days,
    check_limits,
    check_invoices,
    check_exports,
)


def reconcile() -> Report:
    """Recompute the books and return what was found; changes nothing, and holds up no call."""
    with _snapshot():
        as_of = datetime.now(UTC)
        sql = Sql(connection)
        checks = tuple(check(sql) for check in _CHECKS)
        return Report(as_of=as_of, checks=(*checks, check_triggers(connection)))


@contextmanager
def _snapshot() -> Iterator[None]:
    """Show one state of the database throughout the block, however many calls begin and end meanwhile."""
    if connection.in_atomic_block:
        # The caller's transaction (a test's) is the snapshot.
        yield
    elif connection.vendor == "sqlite":
        with _deferred_transaction():
            yield
    else:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield


@contextmanager
def _deferred_transaction() -> Iterator[None]:
    """Read under SQLite's snapshot without its write lock, which Django's own transactions take (IMMEDIATE)."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
        try:
            with connection.wrap_database_errors:
                yield
        finally:
            cursor.execute("ROLLBACK")

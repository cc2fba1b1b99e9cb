"""The database itself keeps ledger, usage, prices and the audit trail from being changed, by whatever way one tries."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, models, transaction

from billing.export_models import ExportRun
from billing.exports.running import compute_figures, record_run
from billing.finance_models import ReconciliationRun, UsageArchive
from billing.invoice_models import Invoice, InvoiceItem
from billing.models import Account, PriceTerms, PriceVersion, Transfer, TransferKind, UsageRecord
from billing.money_models import Allocation, Grant
from billing.reconciliation import reconcile
from billing.reconciliation.records import record_reconciliation
from billing.terms import publish_terms
from common import append_only
from common.append_only import AppendOnlyModel, append_only_tables, find_unprotected_tables
from common.protections import lift_before_migrate
from keys.models import AuditEvent
from platform_site.checks import check_ledger_is_protected
from prompts.models import LabelMove, PromptTestResult, PromptVersion
from tests.admitting import run
from tests.exporting import order
from tests.factories import FundedCall, funded_call, make_customer
from tests.prompting import make_released

pytestmark = pytest.mark.django_db

PROTECTED: list[type[AppendOnlyModel]] = [
    *(Transfer, UsageRecord, PriceVersion, PriceTerms),
    *(AuditEvent, PromptVersion, LabelMove, ExportRun, UsageArchive, ReconciliationRun, Grant, Allocation),
]


def _vendor_is(vendor: str) -> None:
    if connection.vendor != vendor:
        pytest.skip(f"a statement of {vendor}")


def _run_sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _fill() -> FundedCall:
    """Leave a grant, a hold with its post, an open hold, a usage record, a price, terms and a released prompt."""
    make_released("a-prompt")
    call = funded_call()
    run(call.admit(request_id="req_settled"))
    run(call.settle("req_settled", cost_nanousd=7))
    run(call.admit(request_id="req_open", amount_nanousd=500))
    publish_terms(customer_id=call.customer_id, markup_basis_points=500, author="tests")
    chosen = order("usage", "csv")
    record_run(chosen, compute_figures(chosen), is_closed=True)
    record_reconciliation(reconcile(), duration_ms=1)
    day = datetime(2001, 1, 1, tzinfo=UTC)
    figures = {"row_count": 1, "charged_nanousd": 0, "cost_nanousd": 0, "byte_count": 1, "sha256": "", "location": ""}
    UsageArchive.objects.create(
        day=day, starts_at=day, ends_at=day + timedelta(days=1), highest_id=1, created_at=day, **figures
    )
    transfer = Transfer.objects.earliest("pk")
    grant = Grant.objects.create(
        account_id=transfer.credit_account_id, transfer=transfer, amount_nanousd=2, priority=1, created_at=day
    )
    Allocation.objects.create(grant=grant, amount_nanousd=1, created_at=day)
    return call


def _columns(model: type[models.Model]) -> str:
    return ", ".join(str(field.column) for field in model._meta.local_concrete_fields)


def _copied(model: type[models.Model], **changed: str) -> str:
    """Return the SELECT of all rows of a table with some columns replaced."""
    return "SELECT " + ", ".join(
        changed.get(str(field.column), str(field.column)) for field in model._meta.local_concrete_fields
    )


def assert_refuses_changes(model: type[AppendOnlyModel]) -> None:
    """Try every way of changing the rows of `model`, and check that they are what they were."""
    table = model._meta.db_table
    row = model._default_manager.earliest("pk")
    before = list(model._default_manager.order_by("pk").values())
    ways: list[Callable[[], object]] = [
        row.save,
        row.delete,
        lambda: model._default_manager.update(id=models.F("id")),  # type: ignore[misc]
        lambda: model._default_manager.bulk_update([row], [model._meta.local_concrete_fields[1].name]),
        lambda: model._default_manager.filter(pk=row.pk)._raw_delete(using="default"),
        lambda: _run_sql(f"UPDATE {table} SET id = id"),
        lambda: _run_sql(f"DELETE FROM {table}"),
        lambda: _run_sql(f"DELETE FROM {table} WHERE id = {row.pk}"),
    ]
    if connection.vendor == "sqlite":
        names = _columns(model)
        ways += [
            lambda: _run_sql(f"REPLACE INTO {table} ({names}) {_copied(model)} FROM {table}"),
            lambda: _run_sql(f"UPDATE OR REPLACE {table} SET id = id + 1"),
            lambda: _run_sql(
                f"INSERT INTO {table} ({names}) {_copied(model)} FROM {table} WHERE true"
                " ON CONFLICT (id) DO UPDATE SET id = excluded.id"
            ),
        ]
    else:
        # Checks that are still to come would refuse TRUNCATE before the trigger does.
        _run_sql("SET CONSTRAINTS ALL IMMEDIATE")
        ways += [
            lambda: _run_sql(f"TRUNCATE {table} CASCADE"),
            lambda: _run_sql(
                f"INSERT INTO {table} ({_columns(model)}) {_copied(model)} FROM {table}"
                " ON CONFLICT (id) DO UPDATE SET id = excluded.id"
            ),
            lambda: _run_sql(
                f"MERGE INTO {table} t USING {table} s ON t.id = s.id WHEN MATCHED THEN UPDATE SET id = s.id"
            ),
        ]
    for way in ways:
        with pytest.raises(DatabaseError, match=r"append-only|protected foreign keys"), transaction.atomic():
            way()
    assert list(model._default_manager.order_by("pk").values()) == before


def test_the_protected_tables_are_ledger_usage_prices_the_audit_trail_and_what_was_published() -> None:
    assert append_only_tables() == [
        "billing_allocation",
        "billing_exportrun",
        "billing_grant",
        "billing_invoice",
        "billing_invoiceitem",
        "billing_priceterms",
        "billing_priceversion",
        "billing_reconciliationrun",
        "billing_transfer",
        "billing_usagearchive",
        "billing_usagerecord",
        "keys_auditevent",
        "prompts_labelmove",
        "prompts_prompttestresult",
        "prompts_promptversion",
    ]
    assert find_unprotected_tables(connection) == []


@pytest.mark.parametrize("model", PROTECTED)
def test_no_way_of_changing_a_row_works(model: type[AppendOnlyModel]) -> None:
    _fill()
    assert_refuses_changes(model)


@pytest.mark.parametrize(
    ("model", "fresh"),
    [
        (Transfer, {"id": "id + 1000000"}),
        (Transfer, {"id": "NULL"}),
        (Transfer, {"id": "id + 1000000", "pending_id": "NULL", "request_id": "NULL", "kind": "'direct'"}),
        (UsageRecord, {"id": "NULL"}),
        (PriceVersion, {"id": "NULL"}),
        (PriceTerms, {"id": "NULL"}),
    ],
)
def test_a_connection_without_the_pragma_cannot_replace_a_row_by_a_unique_value(
    model: type[AppendOnlyModel], fresh: dict[str, str]
) -> None:
    _vendor_is("sqlite")
    _fill()
    Transfer.objects.create(
        kind=TransferKind.DIRECT,
        debit_account=Account.objects.earliest("pk"),
        credit_account=Account.objects.latest("pk"),
        amount_nanousd=1,
        reference="line-1",
        created_at="2026-11-21 12:00:00+00:00",
    )
    before = list(model._default_manager.order_by("pk").values())
    table = model._meta.db_table
    _run_sql("PRAGMA recursive_triggers=OFF")
    try:
        with pytest.raises(IntegrityError), transaction.atomic():
            _run_sql(f"REPLACE INTO {table} ({_columns(model)}) {_copied(model, **fresh)} FROM {table}")
    finally:
        _run_sql("PRAGMA recursive_triggers=ON")
    assert list(model._default_manager.order_by("pk").values()) == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", PROTECTED)
def test_a_foreign_program_cannot_change_the_file(model: type[AppendOnlyModel]) -> None:
    _vendor_is("sqlite")
    _fill()
    table = model._meta.db_table
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as foreign:
        for statement in (
            f"UPDATE {table} SET id = id",
            f"DELETE FROM {table}",
            f"REPLACE INTO {table} SELECT * FROM {table}",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                foreign.execute(statement)


# ---- a post, void or expiry must match its hold


@pytest.fixture
def hold() -> Transfer:
    _fill()
    return Transfer.objects.get(request_id="req_open")


def _resolve(hold: Transfer, **changed: object) -> Transfer:
    values = {
        "kind": TransferKind.POST,
        "debit_account_id": hold.debit_account_id,
        "credit_account_id": hold.credit_account_id,
        "amount_nanousd": hold.amount_nanousd,
        "pending_id": hold.pk,
        "request_id": hold.request_id,
        "created_at": hold.created_at,
        **changed,
    }
    with transaction.atomic():
        return Transfer.objects.create(**values)


@pytest.mark.parametrize(
    ("kind", "amount"),
    [(TransferKind.POST, 500), (TransferKind.POST, 1), (TransferKind.VOID, 500), (TransferKind.EXPIRE, 500)],
)
def test_a_matching_resolution_is_taken_once(hold: Transfer, kind: TransferKind, amount: int) -> None:
    _resolve(hold, kind=kind, amount_nanousd=amount)
    for other in (TransferKind.POST, TransferKind.VOID, TransferKind.EXPIRE):
        with pytest.raises(IntegrityError):
            _resolve(hold, kind=other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_nanousd": 501},
        {"kind": TransferKind.VOID, "amount_nanousd": 499},
        {"kind": TransferKind.EXPIRE, "amount_nanousd": 501},
        {"request_id": "req_other"},
        {"request_id": None},
        {"pending_id": 10**12},
        {"pending_id": None},
    ],
)
def test_a_resolution_that_does_not_match_its_hold_is_refused(hold: Transfer, wrong: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        _resolve(hold, **wrong)


def test_a_resolution_on_other_accounts_is_refused(hold: Transfer) -> None:
    other = Account.objects.get(customer_id=make_customer().pk)
    with pytest.raises(IntegrityError):
        _resolve(hold, debit_account_id=other.pk)
    with pytest.raises(IntegrityError):
        _resolve(hold, credit_account_id=other.pk)


def test_only_a_hold_can_be_resolved(hold: Transfer) -> None:
    grant = Transfer.objects.filter(kind=TransferKind.DIRECT).latest("pk")
    with pytest.raises(IntegrityError):
        _resolve(grant)


def test_copy_does_not_pass_the_triggers(hold: Transfer) -> None:
    _vendor_is("postgresql")
    columns = (
        "kind, debit_account_id, credit_account_id, amount_nanousd, pending_id, request_id, reason, author, created_at"
    )
    row = (
        "post",
        hold.debit_account_id,
        hold.credit_account_id,
        501,
        hold.pk,
        hold.request_id,
        "",
        "",
        hold.created_at,
    )
    with (
        pytest.raises(DatabaseError, match="must match the hold"),
        connection.wrap_database_errors,
        transaction.atomic(),
        connection.cursor() as cursor,
        cursor.copy(f"COPY billing_transfer ({columns}) FROM STDIN") as copy,
    ):
        copy.write_row(row)


# ---- triggers that were lost


@pytest.fixture
def _rebuilt(transactional_db: None) -> Iterator[None]:
    """Do to the tables what a later migration might: change a column, which rebuilds the table on SQLite."""
    _alter(max_length=250)
    yield
    _alter(max_length=None)
    call_command("migrate", verbosity=0)


_ALTERED = (
    (Transfer, "author"),
    (UsageRecord, "end_user"),
    (UsageArchive, "location"),
    (ReconciliationRun, "source"),
    (PriceVersion, "author"),
    (AuditEvent, "object_name"),
    (PriceTerms, "author"),
    (PromptVersion, "author"),
    (ExportRun, "author"),
    (LabelMove, "author"),
    (PromptTestResult, "author"),
    (Grant, "amount_nanousd"),
    (Allocation, "amount_nanousd"),
    (InvoiceItem, "text"),
    (Invoice, "void_reason"),
)


def _alter(*, max_length: int | None, columns: Sequence[tuple[type[AppendOnlyModel], str]] = _ALTERED) -> None:
    for model, name in columns:
        original = model._meta.get_field(name)
        is_text = isinstance(original, models.CharField)
        changed = models.CharField(max_length=250, blank=True) if is_text else models.BigIntegerField(null=True)
        changed.set_attributes_from_name(name)
        changed.model = model
        with connection.schema_editor() as editor:
            editor.alter_field(model, *((original, changed) if max_length else (changed, original)))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("column", [(Invoice, "void_reason"), (UsageArchive, "location")])
def test_a_table_that_another_ones_guard_reads_can_be_migrated(column: tuple[type[AppendOnlyModel], str]) -> None:
    lift_before_migrate(apps.get_app_config("billing"), using="default")
    for max_length in (250, None):
        _alter(max_length=max_length, columns=[column])
    call_command("migrate", verbosity=0)
    assert find_unprotected_tables(connection) == []


@pytest.mark.usefixtures("_rebuilt")
def test_after_a_migration_has_rebuilt_the_tables_they_are_protected_again() -> None:
    if connection.vendor == "sqlite":
        assert find_unprotected_tables(connection) == append_only_tables()
    call_command("migrate", verbosity=0)
    assert find_unprotected_tables(connection) == []
    _fill()
    for model in PROTECTED:
        assert_refuses_changes(model)
    with pytest.raises(IntegrityError):
        _resolve(Transfer.objects.get(request_id="req_open"), amount_nanousd=501)


@pytest.mark.parametrize(
    "table", ["billing_priceterms", "billing_priceversion", "billing_transfer", "billing_usagerecord"]
)
def test_the_check_refuses_to_start_without_the_triggers(table: str) -> None:
    append_only.remove_triggers(connection, [table])
    (problem,) = check_ledger_is_protected(databases=["default"])
    assert problem.id == "tollkeeper.E003"
    assert table in problem.msg
    append_only.install_triggers(connection, [table])
    assert check_ledger_is_protected(databases=["default"]) == []


def test_the_check_misses_no_single_trigger() -> None:
    on_table = " ON billing_transfer" if connection.vendor == "postgresql" else ""
    suffixes = (
        ("append_only_row", "append_only_truncate", "resolution")
        if connection.vendor == "postgresql"
        else ("append_only_update", "append_only_delete", "append_only_replace", "resolution")
    )
    for suffix in suffixes:
        _run_sql(f"DROP TRIGGER billing_transfer_{suffix}{on_table}")
        assert find_unprotected_tables(connection) == ["billing_transfer"]
        append_only.install_triggers(connection, ["billing_transfer"])
        assert find_unprotected_tables(connection) == []


def test_a_disabled_trigger_counts_as_missing() -> None:
    _vendor_is("postgresql")
    _run_sql("ALTER TABLE billing_transfer DISABLE TRIGGER billing_transfer_append_only_row")
    assert find_unprotected_tables(connection) == ["billing_transfer"]

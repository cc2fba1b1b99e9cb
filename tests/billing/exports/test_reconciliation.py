"""Reconciliation makes the files of closed ranges again."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from billing.export_models import ExportAudience, ExportRun
from billing.exports import FORMATS, compute_figures
from billing.exports.formats import Format
from billing.exports.running import Figures, record_run
from billing.models import UsageRecord
from billing.reconciliation import CheckResult, reconcile
from common import append_only
from tests.exporting import START, order, settle_one
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db


@pytest.fixture
def call() -> FundedCall:
    call = funded_call()
    settle_one(call, at=START)
    return call


def make_run(*, is_closed: bool = True, format_name: str = "csv", **options: Any) -> ExportRun:
    dataset = "ledger" if format_name == "beancount" else "usage"
    wanted = order(dataset, format_name, end=START + timedelta(days=1), **options)
    return record_run(wanted, compute_figures(wanted), is_closed=is_closed)


def check() -> CheckResult:
    (found,) = (result for result in reconcile().checks if result.name == "exports")
    return found


def change_usage(assignment: str) -> None:
    """Change the rows behind the ledger's back."""
    append_only.remove_triggers(connection, ["billing_usagerecord"])
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE billing_usagerecord SET {assignment}")
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    append_only.install_triggers(connection, ["billing_usagerecord"])


@pytest.mark.parametrize("format_name", list(FORMATS))
def test_a_file_that_comes_out_the_same_is_clean(call: FundedCall, format_name: str) -> None:
    make_run(format_name=format_name)
    assert (check().examined, check().differences) == (1, ())


def test_a_row_that_joined_a_closed_range_is_named_until_it_is_exported_again(call: FundedCall) -> None:
    run = make_run()
    late = UsageRecord.objects.get()
    late.pk, late.sequence = None, 1
    late.save(force_insert=True)
    texts = [str(difference) for difference in check().differences]
    assert any(f"export {run.public_id}" in text and "its rows is 1, expected 2" in text for text in texts), texts
    assert any("its sum is 0.000033 USD, expected 0.000066 USD" in text for text in texts)
    make_run()
    assert check().is_clean


def test_a_row_that_was_changed_is_named_by_the_files_bytes(call: FundedCall) -> None:
    make_run()
    change_usage("end_user = 'somebody else'")
    (difference,) = check().differences
    assert difference.what == "its sha256"


def test_a_workbook_is_compared_by_rows_and_sum(call: FundedCall) -> None:
    make_run(format_name="xlsx")
    change_usage("end_user = 'somebody else'")
    assert check().is_clean
    change_usage("charged_nanousd = charged_nanousd - 1, flags = 'x'")
    (difference,) = check().differences
    assert difference.what == "its sum"


def test_a_file_of_an_older_version_of_its_format_is_compared_by_rows_and_sum(
    call: FundedCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = order(end=START + timedelta(days=1))
    figures = compute_figures(wanted)
    other = Figures(row_count=figures.row_count, total_nanousd=figures.total_nanousd, byte_count=1, sha256="0" * 64)
    record_run(wanted, other, is_closed=True)
    assert [difference.what for difference in check().differences] == ["its sha256"]
    csv = FORMATS["csv"]
    newer = Format(
        name=csv.name, version=csv.version + 1, suffix=csv.suffix, media_type=csv.media_type, write=csv.write
    )
    monkeypatch.setitem(FORMATS, "csv", newer)
    assert check().is_clean


def test_open_ranges_and_customers_own_files_are_not_made_again(call: FundedCall) -> None:
    make_run(is_closed=False)
    make_run(customer_id=call.customer_id, audience=ExportAudience.CUSTOMER)
    assert check().examined == 0


def test_one_content_is_made_again_once(call: FundedCall) -> None:
    for _ in range(3):
        make_run()
    make_run(customer_id=call.customer_id)
    assert check().examined == 2

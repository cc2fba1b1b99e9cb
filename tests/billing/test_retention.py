"""Archiving of old usage: nothing is lost or counted twice, and the books and statistics go on as if it were there."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction

from billing import retention
from billing.errors import RetentionInvalid
from billing.finance_models import UsageArchive, UsageHour
from billing.models import UsageRecord, UsageStatus
from billing.prompt_statistics import read_version_figures
from billing.reconciliation import reconcile
from billing.retention import archive_usage, read_boundary, verify_archives
from billing.spend import SpendGroup, SpendInterval, SpendQuestion, read_spend
from billing.statistics import read_day
from billing.tokens import NO_TOKENS
from billing.usage_queries import UsageGroup, UsageSelection, group_usage
from common.clock import FrozenClock, to_us
from tests.admitting import make_context, run
from tests.exporting import COST, END, START, settle_one
from tests.factories import FundedCall, funded_call

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

DAY = timedelta(days=1)


def make_usage() -> FundedCall:
    """Leave four days of calls of two customers, some with a prompt, one failed, one with an end user."""
    call, other = funded_call(), funded_call()
    for day in range(4):
        for hour in (1, 1, 13):
            at = START + timedelta(days=day, hours=hour, microseconds=7)
            settle_one(call, at=at, prompt="mail", prompt_version="1.0.0", end_user="ada")
            settle_one(other, at=at)
    settle_one(call, at=START, cost_nanousd=0, status=UsageStatus.FAILED.value, source="none", tokens=NO_TOKENS)
    return call


def read_everything(customer_id: int) -> dict[str, Any]:
    """Return what is asked of usage in sums."""
    selection = {"start": START, "end": END}
    spend = {
        f"{group} {interval}": read_spend(
            SpendQuestion(**selection, customer_id=None, group=group, interval=interval)  # type: ignore[arg-type]
        )
        for group in (SpendGroup.NONE, SpendGroup.CUSTOMER, SpendGroup.KEY, SpendGroup.MODEL)
        for interval in SpendInterval
    }
    sums = {
        group: group_usage(customer_id, UsageSelection(**selection, group_by=group))  # type: ignore[arg-type]
        for group in (UsageGroup.DAY, UsageGroup.MODEL, UsageGroup.KEY)
    }
    days = [read_day(START.date() + day * DAY, now=START) for day in range(5)]
    (version,) = read_version_figures("mail", ["1.0.0"], START)
    return {"spend": spend, "sums": sums, "days": days, "version": (version.calls, version.charged_nanousd)}


def archive(folder: Path, *, days: int = 2, **options: Any) -> list[UsageArchive]:
    return list(archive_usage(START + timedelta(days=days), folder, **options))


@pytest.mark.parametrize("part_rows", [1, 2, 20_000])
def test_sums_and_books_are_the_same_before_and_after(tmp_path: Path, part_rows: int) -> None:
    call = make_usage()
    before = read_everything(call.customer_id)
    manifests = archive(tmp_path, part_rows=part_rows)
    assert UsageRecord.objects.count() == 12
    assert sum(manifest.row_count for manifest in manifests) == 13
    assert sum(manifest.charged_nanousd for manifest in manifests) == 12 * COST
    assert read_everything(call.customer_id) == before
    report = reconcile()
    assert report.is_clean, report.as_text()
    assert archive(tmp_path) == [], "a repeat finds nothing to do"


def test_files_hold_every_column_of_every_record(tmp_path: Path) -> None:
    make_usage()
    expected = list(UsageRecord.objects.filter(started_at__lt=START + DAY).order_by("id").values())
    (manifest,) = archive(tmp_path, days=1)
    with gzip.open(manifest.location, "rt") as file:
        found = [json.loads(line) for line in file]
    assert [{**row, "started_at": None, "settled_at": None} for row in found] == [
        {**row, "started_at": None, "settled_at": None} for row in expected
    ]
    assert [datetime.fromisoformat(row["started_at"]) for row in found] == [row["started_at"] for row in expected]


def test_a_record_that_joins_an_archived_day_goes_into_a_further_part(tmp_path: Path) -> None:
    call = make_usage()
    archive(tmp_path)
    settle_one(funded_call(), at=START + timedelta(hours=1))
    before = read_everything(call.customer_id)
    assert reconcile().is_clean
    (manifest,) = archive(tmp_path)
    assert (manifest.part, manifest.row_count) == (2, 1)
    assert read_everything(call.customer_id) == before
    assert reconcile().is_clean


def test_the_database_lets_go_of_archived_records_only(tmp_path: Path) -> None:
    make_usage()
    archive(tmp_path)
    with pytest.raises(DatabaseError, match="only what an archive has may go"), transaction.atomic():
        UsageRecord.objects.all()._raw_delete(using="default")
    assert UsageRecord.objects.count() == 12


@pytest.mark.parametrize("name", ["add_records", "_read_file"])
def test_a_run_that_breaks_off_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make_usage()
    count = UsageRecord.objects.count()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(retention, name, fail)
        with pytest.raises(OSError, match="disk full"), transaction.atomic():
            archive(tmp_path)
    assert UsageRecord.objects.count() == count
    assert not UsageArchive.objects.exists()
    archive(tmp_path)
    assert reconcile().is_clean


def test_reconcile_finds_a_charge_whose_archived_call_is_missing(tmp_path: Path) -> None:
    call = make_usage()
    archive(tmp_path)
    UsageHour.objects.filter(customer_id=call.customer_id, charged_nanousd__gt=0).earliest("id").delete()
    report = reconcile()
    found = {difference.what for check in report.checks for difference in check.differences}
    assert {"charged_nanousd of archived calls", "charged_nanousd", "calls"} <= found


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _rewrite(path: Path) -> None:
    path.write_bytes(gzip.compress(b'{"charged_nanousd": 1, "cost_nanousd": 1}\n'))


@pytest.mark.parametrize("damage", [_truncate, _rewrite, Path.unlink])
def test_a_damaged_file_is_found(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    make_usage()
    first, second = archive(tmp_path)
    assert [problem for _, problem in verify_archives()] == ["", ""]
    damage(Path(first.location))
    problems = {manifest.pk: problem for manifest, problem in verify_archives()}
    assert problems[first.pk]
    assert not problems[second.pk]


def test_a_call_in_flight_of_that_time_stops_it(tmp_path: Path) -> None:
    call = make_usage()
    run(call.refreshed().admit(lifetime_seconds=10**8), context=make_context(FrozenClock(to_us(START))))
    with pytest.raises(RetentionInvalid, match="in flight"):
        archive(tmp_path)


def set_days(settings: Any, folder: Path, days: int) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"retention_days": days})
    settings.ARCHIVE_DIR = folder


def test_it_is_off_and_refuses_what_budgets_still_need(settings: Any, tmp_path: Path) -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert read_boundary(now) is None
    set_days(settings, tmp_path, 61)
    with pytest.raises(RetentionInvalid, match="62 or more"):
        read_boundary(now)
    set_days(settings, tmp_path, 62)
    assert read_boundary(now) == datetime(2026, 9, 20, tzinfo=UTC)


def test_the_command_archives_and_verifies(settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = funded_call()
    old = datetime.now(UTC) - timedelta(days=100)
    settle_one(call, at=old)
    settle_one(call, at=datetime.now(UTC) - timedelta(days=1))
    set_days(settings, tmp_path, 90)
    call_command("retention", dry_run=True)
    assert UsageRecord.objects.count() == 2
    call_command("retention")
    assert UsageRecord.objects.count() == 1
    call_command("retention", verify=True)
    said = capsys.readouterr().out
    assert "1 records began before" in said
    assert "1 archives read, 0 are not as recorded." in said
    Path(UsageArchive.objects.get().location).unlink()
    with pytest.raises(CommandError, match="restore them"):
        call_command("retention", verify=True)

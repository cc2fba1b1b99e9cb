import hashlib
import io
import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from billing.errors import ExportInvalid
from billing.export_models import ExportRun, ExportSchedule
from billing.exports import scheduling
from billing.exports.scheduling import DayResult, check_schedule, export_day_again, export_due_days
from common.clock import FrozenClock, to_us
from tests.admitting import make_context, run
from tests.exporting import START, settle_one, text
from tests.factories import funded_call, make_customer

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
# Three closed days, and some minutes of a fourth.
NOW = START + 3 * DAY + timedelta(minutes=30)


@pytest.fixture(autouse=True)
def directory(settings: LazySettings, tmp_path: Path) -> Path:
    settings.EXPORT_DIR = tmp_path / "exports"
    return tmp_path / "exports"


def make_schedule(**columns: Any) -> ExportSchedule:
    return ExportSchedule.objects.create(
        **{"name": "daily", "content": "usage", "format": "csv", "first_day": START.date(), **columns}
    )


def run_due(now: datetime = NOW) -> list[DayResult]:
    return list(export_due_days(now))


def test_every_closed_day_is_written_and_recorded_once(directory: Path) -> None:
    call = funded_call()
    for hours in (0, 5, 30, 80):
        settle_one(call, at=START + timedelta(hours=hours))
    schedule = make_schedule(destination="accounting")
    results = run_due()
    assert [result.day.day for result in results] == [1, 2, 3]
    assert [result.run.row_count for result in results if result.run] == [2, 1, 0]
    names = sorted(path.name for path in (directory / "accounting").iterdir())
    assert names == [f"daily-2026-11-0{day}.csv{suffix}" for day in (1, 2, 3) for suffix in ("", ".manifest.json")]
    recorded = ExportRun.objects.get(schedule=schedule, range_start=START)
    file = (directory / "accounting" / "daily-2026-11-01.csv").read_bytes()
    assert file.decode() == text("usage", start=START, end=START + DAY)
    assert recorded.location == str(directory / "accounting" / "daily-2026-11-01.csv")
    assert (recorded.sha256, recorded.is_closed) == (hashlib.sha256(file).hexdigest(), True)
    manifest = json.loads((directory / "accounting" / "daily-2026-11-01.csv.manifest.json").read_text())
    assert (manifest["sha256"], manifest["row_count"]) == (recorded.sha256, 2)
    assert run_due() == []
    assert [result.day.day for result in run_due(NOW + DAY)] == [4]


def test_a_day_with_a_call_in_flight_waits_and_so_do_those_behind_it() -> None:
    call = funded_call()
    clock = FrozenClock(to_us(START + DAY + timedelta(hours=1)))
    question = call.admit(lifetime_seconds=9 * 86_400)
    run(question, context=make_context(clock))
    make_schedule()
    assert [result.day.day for result in run_due()] == [1]
    run(call.settle(question.request_id, started_us=clock.now_us()), context=make_context(clock))
    assert [result.day.day for result in run_due()] == [2, 3]


def test_a_day_is_not_closed_the_moment_it_is_over() -> None:
    make_schedule()
    assert run_due(START + DAY) == []
    assert len(run_due(START + DAY + timedelta(minutes=5))) == 1


def test_after_a_crash_before_the_record_the_same_file_is_written_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_one(funded_call(), at=START)
    make_schedule()

    def crash(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scheduling, "record_run", crash)
        with pytest.raises(KeyboardInterrupt):
            run_due(START + DAY + timedelta(hours=1))
    first = (directory / "daily-2026-11-01.csv").read_bytes()
    assert not ExportRun.objects.exists()
    run_due(START + DAY + timedelta(hours=1))
    assert (directory / "daily-2026-11-01.csv").read_bytes() == first
    assert ExportRun.objects.get().sha256 == hashlib.sha256(first).hexdigest()


def test_of_two_processes_at_once_one_records(monkeypatch: pytest.MonkeyPatch) -> None:
    make_schedule()
    write_manifest = scheduling._write_manifest

    def overtaken(*args: Any) -> None:
        """Let another process do the whole day between this one's file and its record."""
        with monkeypatch.context() as patch:
            patch.setattr(scheduling, "_write_manifest", write_manifest)
            assert [result.run is not None for result in run_due(START + DAY + timedelta(hours=1))] == [True]
        write_manifest(*args)

    monkeypatch.setattr(scheduling, "_write_manifest", overtaken)
    (result,) = run_due(START + DAY + timedelta(hours=1))
    assert (result.is_done_elsewhere, result.problem) == (True, "")
    assert ExportRun.objects.count() == 1


def test_a_place_that_fails_leaves_no_gap_and_stops_no_other(directory: Path) -> None:
    directory.mkdir()
    (directory / "blocked").write_text("a file where a folder should be")
    make_schedule(name="broken", destination="blocked")
    make_schedule(name="works")
    results = run_due()
    assert [(result.schedule, bool(result.problem)) for result in results] == [
        ("broken", True),
        *[("works", False)] * 3,
    ]
    (directory / "blocked").unlink()
    assert [(result.schedule, result.day.day) for result in run_due()] == [("broken", day) for day in (1, 2, 3)]


def test_doing_a_day_again_is_a_next_revision() -> None:
    call = funded_call()
    settle_one(call, at=START)
    schedule = make_schedule()
    run_due(START + DAY + timedelta(hours=1))
    settle_one(call, at=START)
    again = export_day_again(schedule, date(2026, 11, 1), NOW)
    assert again.run is not None
    assert (again.run.revision, again.run.row_count) == (1, 2)
    with pytest.raises(ExportInvalid, match="not closed"):
        export_day_again(schedule, NOW.date(), NOW)


def test_a_schedule_that_is_off_does_nothing() -> None:
    make_schedule(is_active=False)
    assert run_due() == []


def test_the_database_records_a_day_of_a_schedule_once() -> None:
    make_schedule()
    run_due()
    recorded = ExportRun.objects.order_by("id")[0]
    columns = {f.attname: getattr(recorded, f.attname) for f in ExportRun._meta.concrete_fields if f.name != "id"}
    with pytest.raises(IntegrityError), transaction.atomic():
        ExportRun.objects.create(**{**columns, "public_id": "exp_other"})


def test_what_could_never_run_is_refused() -> None:
    with pytest.raises(ExportInvalid):
        check_schedule(dataset="ledger", format_name="focus", customer_id=None, destination="")
    with pytest.raises(ExportInvalid):
        check_schedule(dataset="ledger", format_name="beancount", customer_id=make_customer().pk, destination="")


# ---- the command


def run_command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("export_scheduled", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_tells_each_day_and_then_that_nothing_is_due(directory: Path) -> None:
    yesterday = datetime.now(START.tzinfo).date() - DAY
    make_schedule(first_day=yesterday - DAY)
    said = run_command().splitlines()
    assert said[0] == f"ok    daily {yesterday - DAY}: 0 rows, 0.00 USD, {directory}/daily-{yesterday - DAY}.csv"
    assert run_command("--again", f"{yesterday - DAY}").startswith(f"ok    daily {yesterday - DAY}")
    assert "Nothing is due" in run_command() or len(said) == 1


def test_the_command_ends_with_1_when_a_day_failed(directory: Path) -> None:
    directory.mkdir()
    (directory / "blocked").write_text("")
    make_schedule(destination="blocked")
    with pytest.raises(CommandError) as caught:
        run_command()
    assert caught.value.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--again", "soon"), "'soon' is no day"),
        (("--again", "2026-11-01", "--schedule", "none"), "no schedule 'none'"),
        (("--again", "2026-11-01"), "no active schedule"),
        (("--schedule", "daily"), "belongs to --again"),
    ],
)
def test_the_command_explains_what_is_wrong(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run_command(*arguments)

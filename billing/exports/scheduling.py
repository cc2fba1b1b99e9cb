"""Exports of every day: each UTC day of each schedule once, when it is closed.

There is no memory but the runs themselves, and no lock: a day is due until its run is recorded. After a crash between
the file and its record the day is written again, with the same bytes under the same name. Two processes at once do the
same work; the unique constraint on the day lets one of them record it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import BinaryIO

from django.db import IntegrityError, transaction

from billing.errors import ExportDestinationInvalid, ExportInvalid
from billing.export_models import ExportRun, ExportSchedule
from billing.exports.destinations import parse_destination
from billing.exports.running import Delivery, Figures, Order, make_order, record_run, write_file
from billing.exports.selection import Selection, format_moment, make_selection

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayResult:
    """What came of one day of one schedule: a run, or the reason why there is none."""

    schedule: str
    day: date
    run: ExportRun | None = None
    # Another process was faster.
    is_done_elsewhere: bool = False
    problem: str = ""


def check_schedule(*, dataset: str, format_name: str, customer_id: int | None, destination: str) -> None:
    """Raise ExportInvalid or ExportDestinationInvalid for a schedule that could never run."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    selection = make_selection(dataset, start=start, end=start + _DAY, customer_id=customer_id)
    make_order(selection, format_name=format_name, author="")
    parse_destination(destination)


def export_due_days(now: datetime) -> Iterator[DayResult]:
    """Export every closed day that has no run, oldest first, schedule by schedule; yield each result as it comes.

    A day that fails ends its schedule's turn, so that the files of a schedule have no gap; the others go on.
    """
    for schedule in ExportSchedule.objects.filter(is_active=True).order_by("id"):
        for day in _due_days(schedule, now):
            if not _select(schedule, day).is_closed(now):
                break
            result = _export_day(schedule, day, revision=0)
            yield result
            if result.problem:
                break


def export_day_again(schedule: ExportSchedule, day: date, now: datetime) -> DayResult:
    """Write a closed day's file again, in the place of the one before, as a next revision.

    For a day that was corrected, or whose file got lost. Raises ExportInvalid for a day that is not closed yet.
    """
    if not _select(schedule, day).is_closed(now):
        raise ExportInvalid(f"{day} is not closed yet: calls that began in it may still be running.", param="day")
    last = ExportRun.objects.filter(schedule=schedule, range_start=_midnight(day)).order_by("-revision").first()
    return _export_day(schedule, day, revision=0 if last is None else last.revision + 1)


def _due_days(schedule: ExportSchedule, now: datetime) -> Iterator[date]:
    done = {
        moment.date() for moment in ExportRun.objects.filter(schedule=schedule).values_list("range_start", flat=True)
    }
    day = schedule.first_day
    while day < now.astimezone(UTC).date():
        if day not in done:
            yield day
        day += _DAY


def _export_day(schedule: ExportSchedule, day: date, *, revision: int) -> DayResult:
    try:
        run = _write_day(schedule, day, revision=revision)
    except IntegrityError:
        return DayResult(schedule=schedule.name, day=day, is_done_elsewhere=True)
    except (ExportInvalid, ExportDestinationInvalid) as error:
        return DayResult(schedule=schedule.name, day=day, problem=error.message)
    except OSError as error:
        return DayResult(schedule=schedule.name, day=day, problem=str(error))
    return DayResult(schedule=schedule.name, day=day, run=run)


def _write_day(schedule: ExportSchedule, day: date, *, revision: int) -> ExportRun:
    order = make_order(_select(schedule, day), format_name=schedule.format, author=f"schedule {schedule.name}")
    destination = parse_destination(schedule.destination)
    name = f"{schedule.name}-{day}.{order.format.suffix}"
    location, figures = destination.put(name, lambda file: write_file(order, file))
    destination.put(f"{name}.manifest.json", lambda file: _write_manifest(file, order, figures))
    delivery = Delivery(schedule_id=schedule.pk, revision=revision, location=location)
    with transaction.atomic():
        return record_run(order, figures, is_closed=True, delivery=delivery)


def _write_manifest(file: BinaryIO, order: Order, figures: Figures) -> None:
    """Write the figures beside the file; nothing in it depends on when it was written."""
    manifest = {
        "dataset": order.selection.dataset.name.value,
        "format": order.format.name.value,
        "format_version": order.format.version,
        "from": format_moment(order.selection.start),
        "to": format_moment(order.selection.end),
        **asdict(figures),
    }
    file.write(json.dumps(manifest, indent=2).encode() + b"\n")


def _select(schedule: ExportSchedule, day: date) -> Selection:
    start = _midnight(day)
    return make_selection(schedule.content, start=start, end=start + _DAY, customer_id=schedule.customer_id)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)

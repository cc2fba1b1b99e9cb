"""`manage.py export_scheduled`: write the files of every closed day that a schedule has not exported yet."""

from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError

from billing.errors import ExportInvalid
from billing.export_models import ExportSchedule
from billing.exports.scheduling import DayResult, export_day_again, export_due_days
from common.money import format_usd


class Command(BaseCommand):
    """Safe to run at any time and any number of times, also at once; a server runs it every hour."""

    help = "Export every closed day of every active schedule that has not been exported; exit 1 when one fails."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--again", metavar="DAY", help="Write this day's files again (UTC, 2026-11-20).")
        parser.add_argument("--schedule", metavar="NAME", help="With --again: only this schedule.")

    def handle(self, *args: Any, **options: Any) -> None:
        now = datetime.now(UTC)
        if options["schedule"] and not options["again"]:
            raise CommandError("--schedule belongs to --again DAY; without it all schedules are run")
        try:
            if options["again"]:
                failed = self._report(_run_again(options["again"], options["schedule"], now))
            else:
                failed = self._report(export_due_days(now))
        except ExportInvalid as error:
            raise CommandError(error.message) from None
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None
        if failed:
            raise CommandError("an export failed: see above; the next run tries it again", returncode=1)

    def _report(self, results: Iterable[DayResult]) -> bool:
        """Print each result as it comes; return whether one failed."""
        failed, count = False, 0
        for result in results:
            count += 1
            failed = failed or bool(result.problem)
            self.stdout.write(_describe(result))
        if not count:
            self.stdout.write("Nothing is due: every closed day of every active schedule has been exported.")
        return failed


def _run_again(day_text: str, name: str | None, now: datetime) -> Iterable[DayResult]:
    try:
        day = date.fromisoformat(day_text)
    except ValueError:
        raise CommandError(f"'{day_text}' is no day; write 2026-11-20") from None
    schedules = ExportSchedule.objects.order_by("id")
    chosen = schedules.filter(name=name) if name else schedules.filter(is_active=True)
    if not chosen:
        raise CommandError(f"there is no schedule '{name}'" if name else "there is no active schedule")
    return (export_day_again(schedule, day, now) for schedule in chosen)


def _describe(result: DayResult) -> str:
    name = f"{result.schedule} {result.day}"
    if result.problem:
        return f"FAIL  {name}: {result.problem}"
    if result.run is None:
        return f"ok    {name}: another process has just exported it"
    run = result.run
    return f"ok    {name}: {run.row_count} rows, {format_usd(run.total_nanousd)} USD, {run.location}"

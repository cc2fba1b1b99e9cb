"""`manage.py retention`: archive usage records older than RETENTION_DAYS, or read the archives again."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError

from billing.errors import RetentionInvalid
from billing.retention import archive_usage, count_due, read_boundary, verify_archives
from common.money import format_usd


class Command(BaseCommand):
    """Safe to run again at any time; on one machine, by cron or a timer, once a day."""

    help = "Archive usage records older than RETENTION_DAYS to files in ARCHIVE_DIR; sums by the hour stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Say what would be archived, and change nothing.")
        parser.add_argument("--verify", action="store_true", help="Read every archive and compare it; change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["verify"]:
                self._verify()
            else:
                self._archive(is_dry=options["dry_run"])
        except RetentionInvalid as error:
            raise CommandError(error.message) from None
        except OSError as error:
            raise CommandError(f"the archive cannot be written: {error}; nothing of this part was deleted") from None
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None

    def _archive(self, *, is_dry: bool) -> None:
        boundary = read_boundary(datetime.now(UTC))
        if boundary is None:
            self.stdout.write("RETENTION_DAYS is 0: all usage is kept.")
            return
        if is_dry:
            self.stdout.write(f"{count_due(boundary):,} records began before {boundary:%Y-%m-%d}, the boundary.")
            return
        count = 0
        for manifest in archive_usage(boundary, settings.ARCHIVE_DIR):
            count += manifest.row_count
            self.stdout.write(
                f"{manifest.day}  {manifest.row_count:,} records, {format_usd(manifest.charged_nanousd)} USD, "
                f"{manifest.location}"
            )
        self.stdout.write(f"{count:,} records archived; all of before {boundary:%Y-%m-%d} are.")

    def _verify(self) -> None:
        count = failed = 0
        for manifest, problem in verify_archives():
            count += 1
            if problem:
                failed += 1
                self.stdout.write(f"FAIL  {manifest}: {problem}")
        self.stdout.write(f"{count:,} archives read, {failed:,} are not as recorded.")
        if failed:
            raise CommandError("archives are damaged or missing: restore them from a backup", returncode=1)

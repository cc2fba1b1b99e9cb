"""`manage.py export usage|ledger`: a range of rows as a CSV file, with its control figures on standard error."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError, connection

from billing.errors import ExportInvalid
from billing.exports import KINDS, Manifest, TextSink, parse_moment, write_export
from common.money import format_usd


class Command(BaseCommand):
    """Streams the rows; a file appears whole or not at all."""

    help = "Export usage or ledger rows of a range of time; columns are described in billing/exports.py."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=list(KINDS))
        parser.add_argument("--format", choices=["csv"], default="csv")
        parser.add_argument(
            "--from", dest="start", required=True, help="First moment, UTC: 2026-11-01 or 2026-11-01T08:00Z"
        )
        parser.add_argument("--to", dest="end", required=True, help="First moment that is not in it any more.")
        parser.add_argument("--output", default="-", metavar="FILE", help="- is standard output (the default).")

    def handle(self, *args: Any, **options: Any) -> None:
        kind, output = options["kind"], options["output"]
        try:
            _read_with_small_cache()
            start = parse_moment(options["start"], param="from")
            end = parse_moment(options["end"], param="to")
            if output == "-":
                manifest = write_export(kind, start=start, end=end, sink=_Unwrapped(self.stdout))
            else:
                manifest = _write_file(Path(output), kind, start=start, end=end)
        except ExportInvalid as error:
            raise CommandError(error.message) from None
        except BrokenPipeError:
            raise CommandError("the reader of the output closed it before the end") from None
        except OSError as error:
            raise CommandError(f"cannot write {output}: {error.strerror}") from None
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None
        self.stderr.write(_describe(manifest), style_func=str)


def _read_with_small_cache() -> None:
    """Let a scan, which meets each page once, not fill SQLite's cache of 32 MB."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA cache_size=-4000")


class _Unwrapped:
    """Standard output without the newline that Django adds."""

    def __init__(self, out: Any) -> None:
        self._out = out

    def write(self, text: str) -> None:
        self._out.write(text, ending="")


def _write_file(path: Path, kind: str, **bounds: Any) -> Manifest:
    """Write beside the file and rename: a reader, or a crash, never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            sink: TextSink = file
            manifest = write_export(kind, sink=sink, **bounds)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def _describe(manifest: Manifest) -> str:
    total = format_usd(manifest.total_nanousd)
    name = manifest.total_column.removesuffix("_nanousd")
    return f"rows {manifest.rows}\nsum {total} USD ({name})\nsha256 {manifest.sha256}"

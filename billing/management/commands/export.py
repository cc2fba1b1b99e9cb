"""`manage.py export usage|ledger|invoices`: a range of rows as a file, with its control figures on standard error."""

import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError, connection

from billing.errors import ExportInvalid
from billing.exports import DATASETS, FORMATS, Figures, Order, make_order, make_selection, parse_moment, write_file
from billing.exports.destinations import write_whole
from billing.exports.running import record_run
from common.money import format_usd
from keys.customers import find_customer_id

_AUTHOR = "manage.py export"


class Command(BaseCommand):
    """Streams the rows; a file appears whole or not at all, and each whole one is recorded."""

    help = "Export usage, ledger or invoice rows of a range of time; formats and columns: docs/reference/exports.md."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dataset", choices=list(DATASETS))
        parser.add_argument("--format", choices=list(FORMATS), default="csv")
        parser.add_argument(
            "--from", dest="start", required=True, help="First moment, UTC: 2026-11-01 or 2026-11-01T08:00Z"
        )
        parser.add_argument("--to", dest="end", required=True, help="First moment that is not in it any more.")
        parser.add_argument("--customer", metavar="ID", help="Only this customer's rows: cus_...")
        parser.add_argument("--output", default="-", metavar="FILE", help="- is standard output (the default).")

    def handle(self, *args: Any, **options: Any) -> None:
        output = options["output"]
        try:
            _read_with_small_cache()
            order = _read_order(options)
            is_closed = order.selection.is_closed(datetime.now(UTC))
            figures = _write(order, output)
            run = record_run(order, figures, is_closed=is_closed)
        except ExportInvalid as error:
            raise CommandError(error.message) from None
        except BrokenPipeError:
            raise CommandError("the reader of the output closed it before the end") from None
        except OSError as error:
            raise CommandError(f"cannot write {output}: {error.strerror}") from None
        except (OperationalError, ProgrammingError) as error:
            text = f"the database refuses ({error}). Is it up to date? Run 'manage.py migrate' first."
            raise CommandError(text, returncode=2) from None
        self.stderr.write(_describe(run.public_id, order, figures, is_closed=is_closed), style_func=str)


def _read_with_small_cache() -> None:
    """Let a scan, which meets each page once, not fill SQLite's cache of 32 MB."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA cache_size=-4000")


def _read_order(options: dict[str, Any]) -> Order:
    selection = make_selection(
        options["dataset"],
        start=parse_moment(options["start"], param="from"),
        end=parse_moment(options["end"], param="to"),
        customer_id=_read_customer(options["customer"]) if options["customer"] else None,
    )
    return make_order(selection, format_name=options["format"], author=_AUTHOR)


def _read_customer(public_id: str) -> int:
    customer_id = find_customer_id(public_id)
    if customer_id is None:
        raise ExportInvalid(
            f"There is no customer '{public_id}'; their ids (cus_...) are in the admin.", param="customer"
        )
    return customer_id


def _write(order: Order, output: str) -> Figures:
    if output != "-":
        return write_whole(Path(output), lambda file: write_file(order, file))
    sink: BinaryIO = sys.stdout.buffer
    figures = write_file(order, sink)
    sink.flush()
    return figures


def _describe(public_id: str, order: Order, figures: Figures, *, is_closed: bool) -> str:
    name = order.selection.dataset.total.removesuffix("_nanousd")
    lines = [
        f"rows {figures.row_count}",
        f"sum {format_usd(figures.total_nanousd)} USD ({name})",
        f"sha256 {figures.sha256}",
        f"run {public_id}",
    ]
    if not is_closed:
        lines.append("The range is not closed yet: rows may still join it, and the same range give another file.")
    return "\n".join(lines)

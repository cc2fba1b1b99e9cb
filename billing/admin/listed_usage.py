"""What the list of usage shows, as CSV, with the names that it has: for a look in a spreadsheet.

The file to keep is an export of a period (`billing.admin.export_page`): complete, reproducible, and recorded.
"""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase

from billing.models import UsageRecord
from common.money import format_usd
from common.streaming import stream_csv

_ROWS_A_READ = 2_000
_COLUMNS = (
    "request_id",
    "sequence",
    "started_at",
    "settled_at",
    "customer",
    "key_prefix",
    "operation",
    "model",
    "upstream",
    "status",
    "source",
    "error_code",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cost_usd",
    "charged_usd",
    "price_version",
    "ttft_ms",
    "total_ms",
    "flags",
    "cache",
)


def stream_records(request: HttpRequest, records: QuerySet[UsageRecord]) -> HttpResponseBase:
    """Return the given usage records as CSV, oldest first."""
    ordered = records.select_related("customer", "api_key").order_by("started_at", "id")
    filename = f"tollkeeper-usage-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
    return stream_csv(request, _lines(ordered), filename=filename)


def _lines(records: QuerySet[UsageRecord]) -> Iterator[str]:
    yield _line(_COLUMNS)
    for record in records.iterator(chunk_size=_ROWS_A_READ):
        yield _line(tuple(_cell(record, column) for column in _COLUMNS))


def _cell(record: UsageRecord, column: str) -> object:
    match column:
        case "customer":
            return record.customer.name
        case "key_prefix":
            return record.api_key.prefix
        case "price_version":
            return record.price_version_id
        case "cost_usd":
            return format_usd(record.cost_nanousd)
        case "charged_usd":
            return format_usd(record.charged_nanousd)
        case "started_at" | "settled_at":
            moment: datetime = getattr(record, column)
            return moment.isoformat().replace("+00:00", "Z")
        case _:
            return getattr(record, column)


def _line(cells: tuple[object, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(_harmless(cell) for cell in cells)
    return buffer.getvalue()


def _harmless(cell: object) -> object:
    """Return a text that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell

"""Usage and ledger as CSV files: exact, in a fixed order, with constant memory.

A range is half open, [start, end) in UTC. Usage is chosen by `started_at`, as budgets and statements are; ledger rows
by `created_at`. Rows are in the order of that moment, then of their id. Nothing that can change later is in a file (no
customer or key names), so a range that is closed gives the same bytes every time. A usage range is closed when its end
has passed and no call that began in it is in flight.

The files are RFC 4180: comma, CRLF, quotes where needed, UTF-8. Moments are ISO 8601 in UTC with six decimals. Amounts
are plain decimals in USD, exact, and again as integers in nano-USD (1e-9). A text that a spreadsheet would take for a
formula gets a leading apostrophe (OWASP, CSV injection). New columns are only ever added at the end.

usage:  id, request_id, sequence, started_at, settled_at, customer_id, key_id, key_prefix, operation, model, upstream,
        upstream_model, price_version, status, source, error_code, finish_reason, is_stream, input_tokens,
        cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens,
        audio_output_tokens, cost_usd, cost_nanousd, charged_usd, charged_nanousd, provider_cost_usd,
        provider_cost_nanousd, flags, end_user, tags, upstream_ms, ttft_ms, total_ms, overhead_us
ledger: id, created_at, kind, debit_account, credit_account, customer_id, amount_usd, amount_nanousd, pending_id,
        request_id, reference, reason, author

`customer_id` and `key_id` are the public ids (cus_..., key_...). Files are for operators: they show provider costs.
"""

import csv
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
from django.db import connection

from billing.errors import ExportInvalid
from common.clock import to_us
from common.money import format_usd
from common.sql import Row, Sql

_ROWS_A_READ = 1_000
_FORMULA_STARTS = frozenset("=+-@\t\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a file: its SQL, and how its value is written."""

    name: str
    sql: str
    write: Callable[[Any], object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportKind:
    """What a file consists of. The first two columns that are read are the moment and the id, for the order."""

    columns: tuple[Column, ...]
    tables: str
    moment: str
    id: str
    # The column whose sum is the control total.
    total: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a file holds, to be checked against a copy of it."""

    rows: int
    total_column: str
    total_nanousd: int
    sha256: str


class TextSink(Protocol):
    """Anything that takes text."""

    def write(self, text: str, /) -> object: ...


def export_rows(kind: str, *, start: datetime, end: datetime) -> Iterator[str]:
    """Yield the lines of a file, header first, each with its line end.

    Raises ExportInvalid at once for an unknown kind or a range that is empty.
    """
    return (line for line, _ in _lines(find_kind(kind), *_checked(start, end)))


def write_export(kind: str, *, start: datetime, end: datetime, sink: TextSink) -> Manifest:
    """Write a file's lines to `sink` and return what was written. Raises ExportInvalid like `export_rows`."""
    chosen = find_kind(kind)
    digest = hashlib.sha256()
    rows, total = -1, 0  # the header is no row
    for line, amount in _lines(chosen, *_checked(start, end)):
        sink.write(line)
        digest.update(line.encode())
        rows += 1
        total += amount
    return Manifest(rows=rows, total_column=chosen.total, total_nanousd=total, sha256=digest.hexdigest())


def find_kind(kind: str) -> ExportKind:
    """Return the kind of that name; raises ExportInvalid."""
    if kind not in KINDS:
        raise ExportInvalid(f"There is no export '{kind}'; there are: {', '.join(KINDS)}.", param="kind")
    return KINDS[kind]


def parse_moment(text: str, *, param: str) -> datetime:
    """Return a date (its first moment) or a datetime; without an offset it is UTC. Raises ExportInvalid."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ExportInvalid(
            f"'{text}' is no date or moment; write 2026-11-01 or 2026-11-01T08:00:00Z.", param=param
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _checked(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    if start.tzinfo is None or end.tzinfo is None:
        raise ExportInvalid("The range needs moments with a time zone.", param="from")
    if start >= end:
        raise ExportInvalid(f"The range is empty: it begins at {_iso(start)} and ends before {_iso(end)}.", param="to")
    return start, end


class _Echo:
    """Hands back what a csv writer writes: one line a row, with no buffer between."""

    def write(self, text: str) -> str:
        return text


def _lines(kind: ExportKind, start: datetime, end: datetime) -> Iterator[tuple[str, int]]:
    """Yield each line with its amount in nano-USD."""
    write_row: Callable[[list[object]], str] = csv.writer(_Echo(), lineterminator="\r\n").writerow
    yield write_row([column.name for column in kind.columns]), 0
    writers = [(index, column.write) for index, column in enumerate(kind.columns) if column.write is not None]
    total_at = next(i for i, column in enumerate(kind.columns) if column.name == kind.total)
    for row in _read(kind, start, end):
        cells: list[object] = list(row)
        amount = row[total_at]
        for index, write in writers:
            cells[index] = write(cells[index])
        yield write_row(cells), amount


def _read(kind: ExportKind, start: datetime, end: datetime) -> Iterator[Row]:
    """Yield the rows in order. Each read is a query of its own: no transaction stays open while a client is slow."""
    names = ", ".join(column.sql for column in kind.columns)
    statement = (
        f"SELECT {kind.moment}, {kind.id}, {names} FROM {kind.tables}"
        # A comparison of rows: written with OR, PostgreSQL reads the rest of the range for every part.
        f" WHERE ({kind.moment}, {kind.id}) > (%s, %s) AND {kind.moment} < %s"
        f" ORDER BY {kind.moment}, {kind.id} LIMIT {_ROWS_A_READ}"
    )
    last_us, last_id, end_us = to_us(start), 0, to_us(end)
    while True:
        with connection.wrap_database_errors:
            sql = Sql(connection)
            rows = sql.rows(statement, (sql.moment(last_us), last_id, sql.moment(end_us)))
        for row in rows:
            yield row[2:]
        if len(rows) < _ROWS_A_READ:
            return
        last_us, last_id = to_us(rows[-1][0]), rows[-1][1]


def _iso(moment: datetime) -> str:
    aware = moment if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _text(value: str | None) -> str:
    if not value:
        return ""
    return f"'{value}" if value[0] in _FORMULA_STARTS else value


def _flag(value: object) -> str:
    return "true" if value else "false"


def _json(value: object) -> str:
    # The same text on both databases: PostgreSQL keeps no order and no spacing of its own.
    parsed = orjson.loads(value) if isinstance(value, str) else value
    return orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS).decode() if parsed else ""


def _columns(alias: str, *names: str, write: Callable[[Any], object] | None = None) -> tuple[Column, ...]:
    return tuple(Column(name=name, sql=f"{alias}.{name}", write=write) for name in names)


def _amounts(alias: str, *names: str) -> tuple[Column, ...]:
    """Return two columns for each amount: decimal USD and integer nano-USD."""
    found: list[Column] = []
    for name in names:
        sql = f"{alias}.{name}_nanousd"
        found += [Column(name=f"{name}_usd", sql=sql, write=format_usd), Column(name=f"{name}_nanousd", sql=sql)]
    return tuple(found)


KINDS: dict[str, ExportKind] = {
    "usage": ExportKind(
        # LEFT JOIN, so that both databases start from the usage rows in their order.
        tables="billing_usagerecord u LEFT JOIN keys_customer c ON c.id = u.customer_id"
        " LEFT JOIN keys_apikey k ON k.id = u.api_key_id",
        moment="u.started_at",
        id="u.id",
        total="charged_nanousd",
        columns=(
            *_columns("u", "id", "request_id", "sequence"),
            *_columns("u", "started_at", "settled_at", write=_iso),
            Column(name="customer_id", sql="c.public_id"),
            Column(name="key_id", sql="k.public_id"),
            Column(name="key_prefix", sql="k.prefix"),
            *_columns("u", "operation", "model", "upstream", "upstream_model", write=_text),
            Column(name="price_version", sql="u.price_version_id"),
            *_columns("u", "status", "source", "error_code", "finish_reason", write=_text),
            *_columns("u", "is_stream", write=_flag),
            *_columns("u", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"),
            *_columns("u", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens"),
            *_amounts("u", "cost", "charged", "provider_cost"),
            *_columns("u", "flags", "end_user", write=_text),
            *_columns("u", "tags", write=_json),
            *_columns("u", "upstream_ms", "ttft_ms", "total_ms", "overhead_us"),
        ),
    ),
    "ledger": ExportKind(
        tables="billing_transfer t LEFT JOIN billing_account d ON d.id = t.debit_account_id"
        " LEFT JOIN billing_account r ON r.id = t.credit_account_id"
        " LEFT JOIN keys_customer c ON c.id = coalesce(d.customer_id, r.customer_id)",
        moment="t.created_at",
        id="t.id",
        total="amount_nanousd",
        columns=(
            *_columns("t", "id"),
            *_columns("t", "created_at", write=_iso),
            *_columns("t", "kind"),
            Column(name="debit_account", sql="d.code"),
            Column(name="credit_account", sql="r.code"),
            Column(name="customer_id", sql="c.public_id"),
            *_amounts("t", "amount"),
            *_columns("t", "pending_id", "request_id"),
            *_columns("t", "reference", "reason", "author", write=_text),
        ),
    ),
}

"""Old usage goes to files: a day's records, a part at a time, with a manifest; sums by the hour stay, the ledger too.

A part is written, made durable and read again before one transaction records its manifest, adds its sums and deletes
its records. So at every moment a call is in the database or in a file that has been checked, and counted once. The
database itself refuses to delete a record that no manifest covers (`sql/usage_deletion`). Repeating is safe: what a
broken run left is a file that no manifest names, and the next run writes it again.
"""

import gzip
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max

from billing.errors import RetentionInvalid
from billing.finance_models import UsageArchive
from billing.models import Hold, UsageRecord
from billing.usage_days import is_rolled_up, roll_up_usage
from billing.usage_sums import HOURS, add_records
from common.clock import to_us
from common.sql import Sql

# The month before the present one is still looked at day by day, and budgets count within the present one.
LEAST_DAYS = 62
# So many deletions take a few tenths of a second, for which calls on SQLite wait.
_ROWS_A_PART = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What a file holds."""

    row_count: int
    charged_nanousd: int
    cost_nanousd: int
    byte_count: int
    sha256: str


def read_boundary(now: datetime) -> datetime | None:
    """Return the midnight before which usage is archived; None: never. Raises RetentionInvalid for too few days."""
    days = settings.ENVIRONMENT.retention_days
    if days == 0:
        return None
    if days < LEAST_DAYS:
        raise RetentionInvalid(f"RETENTION_DAYS is {days}; it is 0 (off), or {LEAST_DAYS} or more.", param="days")
    return datetime.combine(now.astimezone(UTC).date() - timedelta(days=days), time(), tzinfo=UTC)


def count_due(boundary: datetime) -> int:
    """Return how many records are to be archived."""
    return UsageRecord.objects.filter(started_at__lt=boundary).count()


def archive_usage(boundary: datetime, folder: Path, *, part_rows: int = _ROWS_A_PART) -> Iterator[UsageArchive]:
    """Archive every record of before `boundary` and yield the manifests, oldest first.

    Raises RetentionInvalid when a call of that time is still in flight, or a file is not what was written.
    """
    if Hold.objects.filter(created_us__lt=to_us(boundary)).exists():
        raise RetentionInvalid("A call of before the boundary is still in flight; try again later.", param="days")
    roll_up_usage()
    while True:
        oldest = UsageRecord.objects.filter(started_at__lt=boundary).order_by("started_at").first()
        if oldest is None:
            return
        manifest = _archive_part(oldest.started_at.astimezone(UTC).date(), folder, part_rows)
        if manifest is not None:
            yield manifest


def _archive_part(day: date, folder: Path, part_rows: int) -> UsageArchive | None:
    """Archive the next part of a day; None when another process was faster."""
    start = datetime.combine(day, time(), tzinfo=UTC)
    end = start + timedelta(days=1)
    of_day = UsageRecord.objects.filter(started_at__gte=start, started_at__lt=end)
    ids = list(of_day.order_by("id").values_list("pk", flat=True)[:part_rows])
    if not ids:
        return None
    records = of_day.filter(pk__lte=ids[-1]).order_by("id")
    part = (UsageArchive.objects.filter(day=day).aggregate(last=Max("part"))["last"] or 0) + 1
    path = folder / f"usage-{day:%Y-%m-%d}-{part:04d}.jsonl.gz"
    rows: Iterable[Any] = records.values().iterator(chunk_size=1_000)
    written = _write_file(path, rows)
    if _read_file(path) != written:
        raise RetentionInvalid(f"{path} does not hold what was written to it; nothing was deleted.", param="folder")
    with transaction.atomic():
        sql = Sql(connection)
        if UsageArchive.objects.filter(day=day, part=part).exists():
            return None
        if not is_rolled_up(ids[-1]):
            raise RetentionInvalid("The sums of the days do not have all of its records yet; try again.", param="days")
        chosen = _bounds(sql, start, end, ids[-1])
        # A part that comes later adds to what earlier ones left.
        add_records(sql, HOURS, where=_CHOSEN, parameters=chosen)
        manifest = UsageArchive.objects.create(
            day=day,
            part=part,
            starts_at=start,
            ends_at=end,
            highest_id=ids[-1],
            row_count=written.row_count,
            charged_nanousd=written.charged_nanousd,
            cost_nanousd=written.cost_nanousd,
            byte_count=written.byte_count,
            sha256=written.sha256,
            location=str(path),
            created_at=datetime.now(UTC),
        )
        deleted = sql.run(f"DELETE FROM billing_usagerecord WHERE {_CHOSEN}", chosen)
        if deleted != written.row_count:
            # Rolls all of it back: the file stays, named by no manifest.
            raise RetentionInvalid(f"{path} has {written.row_count} records, {deleted} would go.", param="folder")
    return manifest


def verify_archives() -> Iterator[tuple[UsageArchive, str]]:
    """Read every archived file; yield each manifest with what is wrong with its file ("" for nothing)."""
    for manifest in UsageArchive.objects.order_by("day", "part").iterator():
        path = Path(manifest.location)
        try:
            found = _read_file(path)
        except (OSError, EOFError, ValueError) as error:
            yield manifest, f"{path} cannot be read: {error}"
            continue
        same = all(
            getattr(found, name) == getattr(manifest, name)
            for name in ("row_count", "charged_nanousd", "cost_nanousd", "byte_count", "sha256")
        )
        yield manifest, "" if same else f"{path} is not the file that was recorded"


# ---- files


def _write_file(path: Path, rows: Iterable[Mapping[str, Any]]) -> _Contents:
    """Write rows as JSON lines, whole or not at all, and on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    count = charged = cost = 0
    with temporary.open("wb") as raw:
        # No name and no time in it: the same records make the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
            for row in rows:
                file.write(orjson.dumps(dict(row)) + b"\n")
                count += 1
                charged += row["charged_nanousd"]
                cost += row["cost_nanousd"]
        raw.flush()
        os.fsync(raw.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return _contents(path, count, charged, cost)


def _read_file(path: Path) -> _Contents:
    count = charged = cost = 0
    with gzip.open(path, "rb") as file:
        for line in file:
            row = orjson.loads(line)
            count += 1
            charged += row["charged_nanousd"]
            cost += row["cost_nanousd"]
    return _contents(path, count, charged, cost)


def _contents(path: Path, count: int, charged: int, cost: int) -> _Contents:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _Contents(
        row_count=count,
        charged_nanousd=charged,
        cost_nanousd=cost,
        byte_count=path.stat().st_size,
        sha256=digest,
    )


# ---- sums

_CHOSEN = "started_at >= %s AND started_at < %s AND id <= %s"


def _bounds(sql: Sql, start: datetime, end: datetime, highest_id: int) -> tuple[object, ...]:
    return sql.moment(to_us(start)), sql.moment(to_us(end)), highest_id

"""Sums of usage by UTC day, customer, key and model, so that a month of millions of calls is read in milliseconds.

They cover every record up to a watermark (an id) that ever was, also those that have been archived since; whoever reads
adds the few records beyond it. So the figures are those of the records, at every moment. `roll_up_usage` moves the
watermark; nothing on the way of a call knows of it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TypeVar

from django.db import connection, transaction
from django.db.models import Sum

from billing.finance_models import UsageDay, UsageWatermark
from billing.models import UsageRecord
from billing.usage_sources import UsageSource, record_source, usage_sources
from billing.usage_sums import DAYS, add_hours, add_records
from common.sql import Sql

T = TypeVar("T")
# A settlement carries the time of its batch and is seen at its commit: no commit takes longer, so behind this nobody
# writes an id below one that is there.
_QUIET = timedelta(minutes=5)
# A tenth of a second, for which calls on SQLite wait.
_RECORDS_A_STEP = 20_000


def roll_up_usage(*, now: datetime | None = None, step: int = _RECORDS_A_STEP) -> int:
    """Add the records since the last run to the sums of their days and return how many they were.

    Safe to repeat, to interrupt, and to run several times at once: each step is a transaction under the lock of the
    watermark.
    """
    quiet = (now or datetime.now(UTC)) - _QUIET
    total = 0
    while added := _roll_up_step(quiet, step):
        total += added
    return total


def _roll_up_step(quiet: datetime, step: int) -> int:
    with transaction.atomic():
        mark, is_new = UsageWatermark.objects.select_for_update(no_key=True).get_or_create(pk=1)
        sql = Sql(connection)
        if is_new:
            # What was archived before there were sums by the day.
            add_hours(sql)
        ids = list(
            UsageRecord.objects.filter(pk__gt=mark.highest_id).order_by("pk").values_list("pk", "settled_at")[:step]
        )
        chosen = [pk for pk, settled_at in ids if settled_at < quiet]
        fresh = next((pk for pk, settled_at in ids if settled_at >= quiet), None)
        chosen = chosen if fresh is None else [pk for pk in chosen if pk < fresh]
        if not chosen:
            return 0
        add_records(sql, DAYS, where="id > %s AND id <= %s", parameters=(mark.highest_id, chosen[-1]))
        mark.highest_id = chosen[-1]
        mark.save()
        return len(chosen)


def read_watermark() -> int | None:
    """Return the id up to which records are in the sums of their days; None: nothing has been summed yet."""
    return UsageWatermark.objects.values_list("highest_id", flat=True).filter(pk=1).first()


def read_whole_days(start: datetime, end: datetime, read: Callable[[Sequence[UsageSource]], T]) -> T:
    """Return what `read` makes of the sources of [start, end): sums by the day where the range is of whole days.

    A call is in one source only. `read` may be called again: the sums may have grown while it read.
    """
    while True:
        mark = read_watermark()
        if mark is None or not (_is_midnight(start) and _is_midnight(end)):
            return read(usage_sources(start, end))
        found = read((_day_source(start, end), record_source(start, end, above_id=mark)))
        if read_watermark() == mark:
            return found


def _is_midnight(moment: datetime) -> bool:
    return moment.astimezone(UTC).time() == time()


def _day_source(start: datetime, end: datetime) -> UsageSource:
    return UsageSource(
        rows=UsageDay.objects.filter(day__gte=start, day__lt=end),
        moment="day",
        calls=Sum("calls"),
        faults=Sum("faults"),
        errors=Sum("errors"),
        has_calls=False,
    )


def is_rolled_up(highest_id: int) -> bool:
    """Return whether records up to an id are in the sums; call it under a transaction that deletes them."""
    mark = UsageWatermark.objects.select_for_update(no_key=True).filter(pk=1).first()
    return mark is not None and mark.highest_id >= highest_id

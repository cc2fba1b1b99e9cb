"""Where sums of usage come from: records, and for what has been archived the sums by the hour that it left."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Aggregate, Count, Q, QuerySet, Sum

from billing.finance_models import UsageArchive, UsageHour
from billing.models import UsageRecord, UsageStatus

FAULTS = (UsageStatus.FAILED, UsageStatus.INTERRUPTED, UsageStatus.LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSource:
    """Rows with a customer, key, model, prompt version, tokens and amounts; a call is in one source only."""

    rows: QuerySet[Any]
    # The column of their moment.
    moment: str
    calls: Aggregate
    faults: Aggregate
    # Calls that did not end in an answer, those that their client left aside.
    errors: Aggregate
    # Whether each row is one call, with its end user, tags and times.
    has_calls: bool


def usage_sources(start: datetime, end: datetime | None = None) -> list[UsageSource]:
    """Return the sources of the half-open range of starts; records alone where nothing of it was archived.

    Whole hours only, as far as it was.
    """
    archives = UsageArchive.objects.filter(ends_at__gt=start)
    found = [record_source(start, end)]
    if (archives if end is None else archives.filter(starts_at__lt=end)).exists():
        found.append(_hours(start, end))
    return found


def record_source(start: datetime, end: datetime | None, *, above_id: int | None = None) -> UsageSource:
    """Return the records of the range, where asked for only those with higher ids than one."""
    rows = UsageRecord.objects.filter(started_at__gte=start)
    if above_id is not None:
        rows = rows.filter(pk__gt=above_id)
    return UsageSource(
        rows=rows if end is None else rows.filter(started_at__lt=end),
        moment="started_at",
        calls=Count("id"),
        faults=Count("id", filter=Q(status__in=FAULTS)),
        errors=Count("id", filter=~Q(error_code="") & ~Q(status=UsageStatus.CANCELLED)),
        has_calls=True,
    )


def _hours(start: datetime, end: datetime | None) -> UsageSource:
    rows = UsageHour.objects.filter(hour__gte=start)
    return UsageSource(
        rows=rows if end is None else rows.filter(hour__lt=end),
        moment="hour",
        calls=Sum("calls"),
        faults=Sum("faults"),
        errors=Sum("errors"),
        has_calls=False,
    )

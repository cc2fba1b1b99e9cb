"""Reading usage: a customer's calls by page, by id, and summed. Bounded by indexed time ranges; nothing is counted."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import F, QuerySet, Sum
from django.db.models.functions import TruncDate

from billing.models import UsageRecord
from billing.usage_sources import UsageSource, usage_sources
from common.errors import NotFound
from common.money import format_usd


class UsageGroup(StrEnum):
    """What usage can be summed by."""

    NONE = "none"
    DAY = "day"
    MODEL = "model"
    KEY = "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSelection:
    """Which usage: a half-open range of start times, and what narrows it."""

    start: datetime
    end: datetime
    model: str | None = None
    api_key: str | None = None
    status: str | None = None
    prompt: str | None = None
    cache: str | None = None
    group_by: UsageGroup = UsageGroup.NONE
    limit: int = 100
    # Records with an id below this one: the cursor of the next page.
    before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePage:
    """Records, newest first, and the cursor of what follows (None: nothing)."""

    records: list[UsageRecord]
    next_before: int | None


def list_usage(customer_id: int, selection: UsageSelection) -> UsagePage:
    """Return a page of a customer's records, by descending id."""
    found = _select(customer_id, selection).select_related("api_key").order_by("-id")
    if selection.before is not None:
        found = found.filter(id__lt=selection.before)
    records = list(found[: selection.limit + 1])
    has_more = len(records) > selection.limit
    records = records[: selection.limit]
    return UsagePage(records=records, next_before=records[-1].pk if has_more else None)


def find_usage(customer_id: int, request_id: str) -> UsageRecord:
    """Return the record of a customer's call. Raises NotFound, also for another customer's."""
    record = (
        UsageRecord.objects.filter(request_id=request_id, customer_id=customer_id)
        .select_related("api_key")
        .order_by("sequence")
        .first()
    )
    if record is None:
        raise NotFound(f"There is no usage of a call '{request_id[:40]}'.")
    return record


# Sums name what usage records name.
_GROUP_NAMES = {UsageGroup.DAY: "day", UsageGroup.MODEL: "model", UsageGroup.KEY: "api_key"}


def group_usage(customer_id: int, selection: UsageSelection) -> list[dict[str, Any]]:
    """Return sums of a customer's usage by day, model or key: calls, tokens, charged USD; exact.

    Archived calls are in them too, but for a selection by status or cache, which are not known of them any more.
    """
    sums: dict[str, Counter[str]] = {}
    for source in usage_sources(selection.start, selection.end):
        if source.has_calls or (selection.status is None and selection.cache is None):
            for row in _group_source(customer_id, selection, source):
                group = str(row.pop("group"))
                sums.setdefault(group, Counter()).update({name: int(value) for name, value in row.items()})
    return [
        {
            _GROUP_NAMES[selection.group_by]: group,
            "calls": row["call_count"],
            "input_tokens": row["input"],
            "output_tokens": row["output"],
            "charged_usd": format_usd(row["charged"]),
        }
        for group, row in sorted(sums.items())
    ]


def _group_source(customer_id: int, selection: UsageSelection, source: UsageSource) -> list[dict[str, Any]]:
    found = _narrow(source.rows.filter(customer_id=customer_id), selection)
    match selection.group_by:
        case UsageGroup.DAY:
            keyed = found.annotate(group=TruncDate(source.moment))
        case UsageGroup.MODEL:
            keyed = found.annotate(group=F("model"))
        case _:
            keyed = found.annotate(group=F("api_key__public_id"))
    return list(
        keyed.values("group")
        .annotate(
            call_count=source.calls,
            input=Sum("input_tokens")
            + Sum("cache_read_tokens")
            + Sum("cache_write_tokens")
            + Sum("audio_input_tokens")
            + Sum("image_input_tokens"),
            output=Sum("output_tokens")
            + Sum("reasoning_tokens")
            + Sum("audio_output_tokens")
            + Sum("image_output_tokens"),
            charged=Sum("charged_nanousd"),
        )
        .order_by("group")
    )


def _select(customer_id: int, selection: UsageSelection) -> QuerySet[UsageRecord]:
    found = UsageRecord.objects.filter(
        customer_id=customer_id, started_at__gte=selection.start, started_at__lt=selection.end
    )
    return _narrow(found, selection)


def _narrow(found: QuerySet[Any], selection: UsageSelection) -> QuerySet[Any]:
    if selection.model is not None:
        found = found.filter(model=selection.model)
    if selection.api_key is not None:
        found = found.filter(api_key__public_id=selection.api_key)
    if selection.status is not None:
        found = found.filter(status=selection.status)
    if selection.prompt is not None:
        found = found.filter(prompt=selection.prompt)
    if selection.cache is not None:
        found = found.filter(cache=selection.cache)
    return found

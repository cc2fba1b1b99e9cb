"""Spend over time, attributed: by customer, key, model, end user or the value of a tag; exact sums of usage records.

A range is half open, by the start of calls, and runs along the index of its customer (or of time). An interval begins
at 00:00 UTC of its first day. Rows are bounded: a range with more is refused, never cut.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from django.db.models import F, QuerySet, Sum, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, TruncDay, TruncHour, TruncMonth

from billing.errors import SpendInvalid
from billing.tokens import INPUT_CLASSES, OUTPUT_CLASSES
from billing.usage_days import read_whole_days
from billing.usage_sources import UsageSource, usage_sources
from common.clock import to_us

MOST_ROWS = 5_000
_TAG_PREFIX = "tag:"
# What can be a path into JSON on both databases: SQLite takes a name of digits for a place in a list.
_TAG_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/ -]{0,63}")


class SpendInterval(StrEnum):
    """What spend is summed over."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    NONE = "none"


class SpendGroup(StrEnum):
    """What spend is attributed to; `tag:<name>` comes beside these."""

    NONE = "none"
    CUSTOMER = "customer"
    KEY = "key"
    MODEL = "model"
    END_USER = "end_user"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendQuestion:
    """Which spend. `tag` names the tag whose values are the groups, and is only set with SpendGroup.NONE."""

    start: datetime
    end: datetime
    # None: of all customers.
    customer_id: int | None
    interval: SpendInterval = SpendInterval.DAY
    group: SpendGroup = SpendGroup.NONE
    tag: str | None = None
    model: str | None = None
    api_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRow:
    """The spend of one group in one interval. `group` is "" for calls without that tag or end user."""

    # None: the whole range in one.
    start: datetime | None
    group: str
    # A name for people where the group is an id.
    label: str
    calls: int
    input_tokens: int
    output_tokens: int
    charged_nanousd: int
    provider_cost_nanousd: int


def parse_group(text: str) -> tuple[SpendGroup, str | None]:
    """Return the group and the tag's name in `model`, `key`, ..., `tag:<name>`. Raises SpendInvalid."""
    if text.startswith(_TAG_PREFIX):
        name = text.removeprefix(_TAG_PREFIX)
        if not _TAG_NAME.fullmatch(name):
            raise SpendInvalid(
                f"'{name[:40]}' is no name of a tag to group by: it begins with a letter and has up to 64 letters, "
                "digits, spaces, or any of _ . : / -",
                param="group_by",
            )
        return SpendGroup.NONE, name
    if text not in set(SpendGroup):
        known = ", ".join(SpendGroup)
        raise SpendInvalid(f"'{text[:40]}' is nothing to group by; there are {known} and tag:<name>.", param="group_by")
    return SpendGroup(text), None


class _CutText:
    """On SQLite cut the text of a moment: Django's own way calls back into Python for every row, most of the time."""

    kept: int
    rest: str
    lhs: Any

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, Sequence[Any]]:
        """Return the SQL; moments are stored as "2026-11-21 12:00:00", in UTC."""
        moment, parameters = compiler.compile(self.lhs)
        return f"substr({moment}, 1, {self.kept}) || '{self.rest}'", parameters


class _Hour(_CutText, TruncHour):  # type: ignore[misc]
    kept, rest = 13, ":00:00"


class _Day(_CutText, TruncDay):  # type: ignore[misc]
    kept, rest = 10, " 00:00:00"


class _Month(_CutText, TruncMonth):  # type: ignore[misc]
    kept, rest = 7, "-01 00:00:00"


_TRUNCATE: dict[SpendInterval, Callable[[str], Any]] = {
    SpendInterval.HOUR: _Hour,
    SpendInterval.DAY: _Day,
    SpendInterval.MONTH: _Month,
}


_GROUPS = {
    SpendGroup.CUSTOMER: F("customer__public_id"),
    SpendGroup.KEY: F("api_key__public_id"),
    SpendGroup.MODEL: F("model"),
    SpendGroup.END_USER: F("end_user"),
    SpendGroup.NONE: Value(""),
}
_LABELS = {SpendGroup.CUSTOMER: F("customer__name"), SpendGroup.KEY: F("api_key__name")}


def read_spend(question: SpendQuestion) -> list[SpendRow]:
    """Return the rows by interval, within it dearest first. Raises SpendInvalid for more than 5,000 of them.

    Of archived calls end users and tags are not known any more: they are in the group "".
    """

    def read(sources: Sequence[UsageSource]) -> list[SpendRow]:
        parts = [_read_source(question, source) for source in sources]
        return parts[0] if len(parts) == 1 else _add_up(parts)

    # Sums by the day know neither hours nor end users and tags.
    is_daily = question.interval is not SpendInterval.HOUR
    if is_daily and question.tag is None and question.group is not SpendGroup.END_USER:
        spend = read_whole_days(question.start, question.end, read)
    else:
        spend = read(usage_sources(question.start, question.end))
    if len(spend) > MOST_ROWS:
        raise SpendInvalid(
            f"The answer has more than {MOST_ROWS} rows. Ask for a shorter range, a longer interval or a coarser "
            "group.",
            param="interval",
        )
    return spend


def _add_up(parts: Sequence[Sequence[SpendRow]]) -> list[SpendRow]:
    found: dict[tuple[datetime | None, str], SpendRow] = {}
    for row in (row for part in parts for row in part):
        name = (row.start, row.group)
        same = found.get(name)
        if same is not None:
            sums = {column: getattr(same, column) + getattr(row, column) for column in _SUMS}
            found[name] = replace(same, **sums)
        else:
            found[name] = row
    return sorted(
        found.values(), key=lambda row: (0 if row.start is None else to_us(row.start), -row.charged_nanousd, row.group)
    )


_SUMS = ("calls", "input_tokens", "output_tokens", "charged_nanousd", "provider_cost_nanousd")


def _read_source(question: SpendQuestion, source: UsageSource) -> list[SpendRow]:
    found = _select(question, source.rows)
    names = ["group"]
    if question.group in _LABELS:
        found = found.annotate(label=_LABELS[question.group])
        names.append("label")
    if question.interval is not SpendInterval.NONE:
        found = found.annotate(start=_TRUNCATE[question.interval](source.moment))
        names.insert(0, "start")
    rows = (
        _grouped(found, question, source)
        .values(*names)
        .annotate(
            # Not "calls": a column has that name.
            call_count=source.calls,
            input=_sum_of(INPUT_CLASSES),
            output=_sum_of(OUTPUT_CLASSES),
            charged=Sum("charged_nanousd"),
            provider=Sum("provider_cost_nanousd"),
        )
        .order_by(*(name for name in names if name == "start"), "-charged", "group")[: MOST_ROWS + 1]
    )
    return [
        SpendRow(
            start=_aware(row.get("start")),
            group=str(row["group"]),
            label=str(row.get("label", row["group"])),
            calls=row["call_count"],
            input_tokens=int(row["input"]),
            output_tokens=int(row["output"]),
            charged_nanousd=int(row["charged"]),
            provider_cost_nanousd=int(row["provider"]),
        )
        for row in rows
        # Without a group and an interval there is a row of nothing.
        if row["call_count"]
    ]


def _select(question: SpendQuestion, found: QuerySet[Any]) -> QuerySet[Any]:
    if question.customer_id is not None:
        found = found.filter(customer_id=question.customer_id)
    if question.model is not None:
        found = found.filter(model=question.model)
    if question.api_key is not None:
        found = found.filter(api_key__public_id=question.api_key)
    return found


def _grouped(found: QuerySet[Any], question: SpendQuestion, source: UsageSource) -> QuerySet[Any]:
    grouped: QuerySet[Any]
    if not source.has_calls and (question.tag is not None or question.group is SpendGroup.END_USER):
        grouped = found.annotate(group=Value(""))
    elif question.tag is not None:
        value = Coalesce(KeyTextTransform(question.tag, "tags"), Value(""), output_field=TextField())
        grouped = found.annotate(group=value)
    else:
        grouped = found.annotate(group=_GROUPS[question.group])
    return grouped


def _sum_of(token_classes: tuple[str, ...]) -> Sum:
    first, *rest = (F(f"{token_class}_tokens") for token_class in token_classes)
    total = first
    for column in rest:
        total += column  # type: ignore[assignment]
    return Sum(total)


def _aware(value: object) -> datetime | None:
    assert value is None or isinstance(value, date)
    return value if isinstance(value, datetime) else None

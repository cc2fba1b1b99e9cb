"""Which rows an export holds, and for whom."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from billing.errors import ExportInvalid
from billing.export_models import ExportAudience
from billing.exports.columns import Column
from billing.exports.datasets import DATASETS, Dataset

# A row is stamped at the start of its transaction and seen at its end: the longest wait for SQLite's write lock, the
# settlement's own timeout, and what the clocks of several machines may differ by.
_COMMIT_GRACE = timedelta(minutes=5)
# A day away from what datetime can hold: any offset can be taken off without an overflow.
_FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Rows of a dataset in the half-open range [start, end), of one customer or of all."""

    dataset: Dataset
    start: datetime
    end: datetime
    customer_id: int | None = None
    audience: ExportAudience = ExportAudience.OPERATOR

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the columns that the audience may see."""
        if not self.is_for_customer:
            return self.dataset.columns
        return tuple(column for column in self.dataset.columns if not column.is_internal)

    @property
    def is_for_customer(self) -> bool:
        return self.audience is ExportAudience.CUSTOMER

    def is_closed(self, now: datetime) -> bool:
        """Return whether no row can join the range any more, so that it gives the same rows for ever.

        One exception stays: a call whose server was given up for dead, and which answered all the same, adds a
        correction to the range in which it began. `reconcile` names the exports that it is missing from.
        """
        return now >= self.end + _COMMIT_GRACE and not self.dataset.has_open_rows(self.end)


def make_selection(
    dataset: str,
    *,
    start: datetime,
    end: datetime,
    customer_id: int | None = None,
    audience: ExportAudience = ExportAudience.OPERATOR,
) -> Selection:
    """Return a selection. Raises ExportInvalid for an unknown dataset or a range that is empty."""
    if dataset not in DATASETS:
        raise ExportInvalid(f"There is no export '{dataset[:40]}'; there are: {', '.join(DATASETS)}.", param="dataset")
    if start.tzinfo is None or end.tzinfo is None:
        raise ExportInvalid("The range needs moments with a time zone.", param="from")
    if start >= end:
        raise ExportInvalid(
            f"The range is empty: it begins at {format_moment(start)} and ends before {format_moment(end)}.", param="to"
        )
    if audience is ExportAudience.CUSTOMER and customer_id is None:
        raise ExportInvalid("A customer's export needs the customer.", param="customer")
    return Selection(
        dataset=DATASETS[dataset],
        start=start.astimezone(UTC),
        end=end.astimezone(UTC),
        customer_id=customer_id,
        audience=audience,
    )


def parse_moment(text: str, *, param: str) -> datetime:
    """Return a date (its first moment) or a datetime; without an offset it is UTC. Raises ExportInvalid."""
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ExportInvalid(
            f"'{text[:60]}' is no date or moment; write 2026-11-01 or 2026-11-01T08:00:00Z (in a URL write the + of "
            "an offset as %2B).",
            param=param,
        ) from None
    if not _FIRST_MOMENT <= moment <= _LAST_MOMENT:
        raise ExportInvalid(f"'{text[:60]}' does not lie between the years 1970 and 9999.", param=param)
    return moment


def format_moment(moment: datetime) -> str:
    """Return ISO 8601 in UTC with six decimals, as exports write it."""
    aware = moment if moment.tzinfo is None else moment.astimezone(UTC)
    return aware.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

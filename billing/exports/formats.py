"""The formats, each with what it can hold. One more is a module with a function that yields bytes, and a line here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from billing.errors import ExportInvalid
from billing.export_models import ExportDataset, ExportFormat
from billing.exports.beancount import write_journal
from billing.exports.cloud_events import write_cloud_events
from billing.exports.csv_file import write_csv
from billing.exports.focus import write_focus
from billing.exports.json_lines import write_json_lines
from billing.exports.selection import Selection
from billing.exports.tally import Tally
from billing.exports.workbook import write_workbook

_EVERY = frozenset(ExportDataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a file is written."""

    name: ExportFormat
    # Raised by any change that makes another file of the same rows: manifests of before are then compared by their
    # figures only.
    version: int
    suffix: str
    media_type: str
    write: Callable[[Selection, Tally], Iterator[bytes]]
    datasets: frozenset[ExportDataset] = _EVERY
    # A journal of one customer's transfers would not balance the accounts that it names.
    is_of_one_customer: bool = True
    # The same rows give the same bytes on every machine. A workbook is compressed, and compressors differ.
    is_repeatable: bool = True

    def check(self, selection: Selection) -> None:
        """Raise ExportInvalid if a file of this format cannot hold the selection."""
        dataset = selection.dataset.name
        if dataset not in self.datasets:
            able = ", ".join(f.name.value for f in FORMATS.values() if dataset in f.datasets)
            raise ExportInvalid(f"'{self.name}' cannot hold {dataset}; these can: {able}.", param="format")
        if selection.customer_id is not None and not self.is_of_one_customer:
            raise ExportInvalid(
                f"'{self.name}' holds the whole ledger, not one customer's part of it; choose another format.",
                param="format",
            )


_USAGE = frozenset({ExportDataset.USAGE})
_LEDGER = frozenset({ExportDataset.LEDGER})

FORMATS: dict[str, Format] = {
    each.name.value: each
    for each in (
        Format(name=ExportFormat.CSV, version=1, suffix="csv", media_type="text/csv; charset=utf-8", write=write_csv),
        Format(
            name=ExportFormat.JSONL,
            version=1,
            suffix="jsonl",
            media_type="application/jsonl",
            write=write_json_lines,
        ),
        Format(
            name=ExportFormat.XLSX,
            version=1,
            suffix="xlsx",
            media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            write=write_workbook,
            is_repeatable=False,
        ),
        Format(
            name=ExportFormat.FOCUS,
            version=1,
            suffix="focus.csv",
            media_type="text/csv; charset=utf-8",
            write=write_focus,
            datasets=_USAGE,
        ),
        Format(
            name=ExportFormat.CLOUDEVENTS,
            version=1,
            suffix="cloudevents.jsonl",
            media_type="application/jsonl",
            write=write_cloud_events,
            datasets=_USAGE | _LEDGER,
        ),
        Format(
            name=ExportFormat.BEANCOUNT,
            version=1,
            suffix="beancount",
            media_type="text/plain; charset=utf-8",
            write=write_journal,
            datasets=_LEDGER,
            is_of_one_customer=False,
        ),
    )
}


def find_format(name: str) -> Format:
    """Return a format by name; raises ExportInvalid."""
    if name not in FORMATS:
        raise ExportInvalid(f"There is no format '{name[:40]}'; there are: {', '.join(FORMATS)}.", param="format")
    return FORMATS[name]

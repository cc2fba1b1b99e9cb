"""Checks on exports: the file of a closed range, made again from the rows, is the file that was recorded."""

from collections.abc import Iterator

from django.db.models import Max

from billing.export_models import ExportAudience, ExportDataset, ExportFormat, ExportRun
from billing.exports import Figures, Order, compute_figures, find_format, make_selection
from billing.finance_models import UsageArchive
from billing.reconciliation.report import CheckResult, Difference, conclude
from common.money import format_usd
from common.sql import Sql


def check_exports(_: Sql) -> CheckResult:
    """The newest run of each closed range still says what the rows say.

    Ranges that have been archived are passed over: the manifests of archives are checked in their stead. Files that
    customers took are their own affair: there may be any number of them, over any ranges.
    """
    examined = 0
    differences: list[Difference] = []
    for run in _newest_runs():
        if _is_archived(run):
            continue
        examined += 1
        differences += _differences(run)
    return conclude(
        "exports",
        "files of closed ranges, made again from the rows, are as recorded",
        examined=examined,
        differences=differences,
    )


def _newest_runs() -> Iterator[ExportRun]:
    """Yield one run for each content; those before it were corrected by it."""
    content = ("dataset", "format", "range_start", "range_end", "customer_id", "schedule_id")
    closed = ExportRun.objects.filter(is_closed=True, audience=ExportAudience.OPERATOR)
    newest = closed.values(*content).annotate(newest=Max("id")).order_by("newest")
    for entry in newest.iterator():
        yield ExportRun.objects.get(pk=entry["newest"])


def _is_archived(run: ExportRun) -> bool:
    """Return whether records of the run have been archived: its file cannot be made again from what is left."""
    archives = UsageArchive.objects.filter(starts_at__lt=run.range_end, ends_at__gt=run.range_start)
    return run.dataset == ExportDataset.USAGE and archives.exists()


def _differences(run: ExportRun) -> Iterator[Difference]:
    selection = make_selection(run.dataset, start=run.range_start, end=run.range_end, customer_id=run.customer_id)
    recorded = find_format(run.format)
    # Where bytes prove nothing, rows and sum do, and no format tells them sooner.
    chosen = recorded if recorded.is_repeatable else find_format(ExportFormat.CSV)
    found = compute_figures(Order(selection=selection, format=chosen, author=run.author))
    name = f"export {run.public_id} ({run.dataset}, {run.format}, from {run.range_start:%Y-%m-%d %H:%M})"
    is_same_format = recorded.is_repeatable and recorded.version == run.format_version
    yield from _unequal(name, run, found, compare_bytes=is_same_format)


def _unequal(name: str, run: ExportRun, found: Figures, *, compare_bytes: bool) -> Iterator[Difference]:
    """Yield what the record says against what the rows say now."""
    if run.row_count != found.row_count:
        yield Difference(row=name, what="its rows", expected=found.row_count, found=run.row_count)
    if run.total_nanousd != found.total_nanousd:
        expected, recorded = (f"{format_usd(amount)} USD" for amount in (found.total_nanousd, run.total_nanousd))
        yield Difference(row=name, what="its sum", expected=expected, found=recorded)
    if compare_bytes and run.sha256 != found.sha256:
        yield Difference(row=name, what="its sha256", expected=found.sha256, found=run.sha256)

"""Usage, ledger and invoices as files: exact, in a fixed order, with constant memory, each run recorded for ever.

A range is half open, [start, end) in UTC. Usage is chosen by `started_at`, as budgets and statements are; ledger rows
by `created_at`; invoices by when they were issued or void. Rows are in the order of that moment, then of their id.
Nothing that can change later is in a file (no customer or key names), so a range that is closed gives the same bytes
every time. The columns and formats are described in `docs/reference/exports.md`.
"""

from billing.exports.datasets import DATASETS, Dataset
from billing.exports.formats import FORMATS, Format, find_format
from billing.exports.running import Download, Figures, Order, compute_figures, make_order, start_download, write_file
from billing.exports.selection import Selection, make_selection, parse_moment

__all__ = [
    "DATASETS",
    "FORMATS",
    "Dataset",
    "Download",
    "Figures",
    "Format",
    "Order",
    "Selection",
    "compute_figures",
    "find_format",
    "make_order",
    "make_selection",
    "parse_moment",
    "start_download",
    "write_file",
]

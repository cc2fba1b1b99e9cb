"""Running an export: the file as a stream of bytes, and the immutable record of what was in it.

A run is recorded once its last byte is made and before it is handed over: whoever got a whole file finds its record,
and a file that broke off has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from billing.export_models import ExportAudience, ExportRun
from billing.exports.formats import Format, find_format
from billing.exports.selection import Selection
from billing.exports.tally import Tally
from common.errors import NotFound
from common.ids import make_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An export that somebody asked for. Raises ExportInvalid, when made, for a format that cannot hold it."""

    selection: Selection
    format: Format
    author: str

    def __post_init__(self) -> None:
        self.format.check(self.selection)

    @property
    def filename(self) -> str:
        """Return a name that says what is in the file."""
        start, end = (_name_moment(moment) for moment in (self.selection.start, self.selection.end))
        return f"tollkeeper-{self.selection.dataset.name.value}-{start}-{end}.{self.format.suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a file holds, to be compared with a copy of it or with another run."""

    row_count: int
    total_nanousd: int
    byte_count: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Where a file of a schedule went."""

    schedule_id: int
    revision: int
    location: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file on its way: the id under which its record will be found, and its bytes, to be read once."""

    public_id: str
    chunks: Iterator[bytes]


def make_order(selection: Selection, *, format_name: str, author: str) -> Order:
    """Return an order. Raises ExportInvalid for an unknown format, or one that cannot hold the selection."""
    return Order(selection=selection, format=find_format(format_name), author=author)


def start_download(order: Order) -> Download:
    """Return the file of an order as a stream that is recorded when it is complete."""
    public_id = make_id("exp")
    return Download(public_id=public_id, chunks=_recorded_chunks(order, public_id))


def _recorded_chunks(order: Order, public_id: str) -> Iterator[bytes]:
    # Asked before the rows are read: a range that was closed then has had all its rows.
    is_closed = order.selection.is_closed(datetime.now(UTC))
    tally = Tally()
    held_back = b""
    for chunk in order.format.write(order.selection, tally):
        tally.add_bytes(chunk)
        if held_back:
            yield held_back
        held_back = chunk
    record_run(order, _figures(tally), is_closed=is_closed, public_id=public_id)
    yield held_back


def write_file(order: Order, sink: BinaryIO) -> Figures:
    """Write the file of an order to `sink` and return what it holds; records nothing."""
    tally = Tally()
    for chunk in order.format.write(order.selection, tally):
        tally.add_bytes(chunk)
        sink.write(chunk)
    return _figures(tally)


def compute_figures(order: Order) -> Figures:
    """Return what the file of an order holds now, without keeping it."""
    tally = Tally()
    for chunk in order.format.write(order.selection, tally):
        tally.add_bytes(chunk)
    return _figures(tally)


def record_run(
    order: Order, figures: Figures, *, is_closed: bool, public_id: str = "", delivery: Delivery | None = None
) -> ExportRun:
    """Append the record of a run. Raises django.db.IntegrityError when this revision of a schedule's day has one."""
    selection = order.selection
    return ExportRun.objects.create(
        public_id=public_id or make_id("exp"),
        dataset=selection.dataset.name,
        format=order.format.name,
        format_version=order.format.version,
        audience=selection.audience,
        range_start=selection.start,
        range_end=selection.end,
        customer_id=selection.customer_id,
        is_closed=is_closed,
        row_count=figures.row_count,
        total_nanousd=figures.total_nanousd,
        byte_count=figures.byte_count,
        sha256=figures.sha256,
        author=order.author,
        schedule_id=None if delivery is None else delivery.schedule_id,
        revision=0 if delivery is None else delivery.revision,
        location="" if delivery is None else delivery.location,
        created_at=datetime.now(UTC),
    )


def get_customer_run(customer_id: int, public_id: str) -> ExportRun:
    """Return the record of a file that a customer itself took. Raises NotFound, also for another customer's."""
    found = ExportRun.objects.filter(
        public_id=public_id, customer_id=customer_id, audience=ExportAudience.CUSTOMER
    ).first()
    if found is None:
        raise NotFound(f"There is no export '{public_id[:40]}'. One that broke off has no record: export again.")
    return found


def _figures(tally: Tally) -> Figures:
    return Figures(
        row_count=tally.row_count,
        total_nanousd=tally.total_nanousd,
        byte_count=tally.byte_count,
        sha256=tally.sha256,
    )


def _name_moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H%M%S%f}".removesuffix("000000").removesuffix("T000000")

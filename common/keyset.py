"""Pages of a long table along an index: rows after a position, never an offset; time is bounded whatever is asked.

A page is found by the moment and id of the row before it, so the thousandth page costs what the first one does. What an
index does not answer (a rare status over all of history) is looked for in windows of the index, for a bounded time; the
page then says how far it has come, and the next one goes on from there. Nothing is left out and nothing comes twice.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import Q, QuerySet

from common.clock import from_us, to_us

_HIGHEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Between two rows: behind the one with this moment (datetime or integer) and id."""

    moment: Any
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a page begins and which way it reads; without a position at the newest row, or at the oldest."""

    position: Position | None = None
    is_backward: bool = False

    def as_text(self) -> str:
        """Return it for an address."""
        way = "a" if self.is_backward else "b"
        if self.position is None:
            return way
        moment = self.position.moment
        return f"{way}{to_us(moment) if isinstance(moment, datetime) else moment}.{self.position.id}"


def parse_cursor(text: str, *, is_datetime: bool) -> Cursor:
    """Return the cursor of an address; what is none is the first page."""
    way, (moment, _, row_id) = text[:1], text[1:].partition(".")
    try:
        position = None
        if moment or row_id:
            position = Position(moment=from_us(int(moment)) if is_datetime else int(moment), id=int(row_id))
            if abs(int(moment)) > _HIGHEST_ID or abs(position.id) > _HIGHEST_ID:
                return Cursor()
    except (ValueError, OverflowError):
        return Cursor()
    return Cursor(position=position, is_backward=way == "a")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for. `wanted` are the rows; `base` those of the index alone, of which `wanted` are a part.

    `branches` split both where one index cannot give them in order; a row may be in several.
    """

    wanted: QuerySet[Any]
    base: QuerySet[Any]
    moment: str
    branches: Sequence[Q] = (Q(),)
    # Whether an index gives exactly the wanted rows; if not, `base` is walked in windows.
    is_indexed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a page may cost."""

    rows: int = 50
    window_rows: int = 5_000
    seconds: float = 0.15
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows, newest first. `following` and `preceding` are None at the ends; `searched_to` is where time ran out."""

    rows: Sequence[Any]
    following: Cursor | None
    preceding: Cursor | None
    searched_to: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    rows: list[Any]
    # Where the search stopped for want of time; None: it found all that it was asked for, or the end.
    stopped_at: Position | None


def read_page(search: Search, cursor: Cursor, bounds: Bounds) -> Page:
    """Return the page that begins at the cursor."""
    deadline = bounds.clock() + bounds.seconds
    found = [_read_branch(search, branch, cursor, bounds, deadline) for branch in search.branches]
    rows, stopped_at = _merge(search, found, cursor, bounds)
    has_more = len(rows) > bounds.rows
    rows = rows[: bounds.rows]
    beyond: Cursor | None = None
    if has_more:
        beyond = Cursor(position=_position(search, rows[-1]), is_backward=cursor.is_backward)
    elif stopped_at is not None:
        beyond = Cursor(position=stopped_at, is_backward=cursor.is_backward)
    behind = None
    if cursor.position is not None:
        behind = Cursor(
            position=_position(search, rows[0]) if rows else cursor.position, is_backward=not cursor.is_backward
        )
    searched_to = stopped_at.moment if stopped_at is not None and not has_more else None
    if cursor.is_backward:
        return Page(rows=rows[::-1], following=behind, preceding=beyond, searched_to=searched_to)
    return Page(rows=rows, following=beyond, preceding=behind, searched_to=searched_to)


def _read_branch(search: Search, branch: Q, cursor: Cursor, bounds: Bounds, deadline: float) -> _Found:
    wanted, base = _ordered(search, search.wanted.filter(branch), cursor), search.base.filter(branch)
    if search.is_indexed:
        found = _beyond(wanted, search, cursor.position, is_backward=cursor.is_backward)
        return _Found(rows=list(found[: bounds.rows + 1]), stopped_at=None)
    rows: list[Any] = []
    position = cursor.position
    while True:
        edge = _find_edge(_beyond(base, search, position, is_backward=cursor.is_backward), search, cursor, bounds)
        window = _beyond(wanted, search, position, is_backward=cursor.is_backward)
        if edge is not None:
            window = window.filter(**{f"{search.moment}__{'lte' if cursor.is_backward else 'gte'}": edge})
        rows += window[: bounds.rows + 1 - len(rows)]
        if len(rows) > bounds.rows or edge is None:
            return _Found(rows=rows, stopped_at=None)
        # Behind all rows of the edge's moment: the window had them all.
        position = Position(moment=edge, id=_HIGHEST_ID if cursor.is_backward else -1)
        if bounds.clock() >= deadline:
            return _Found(rows=rows, stopped_at=position)


def _find_edge(base: QuerySet[Any], search: Search, cursor: Cursor, bounds: Bounds) -> Any:
    """Return the moment at which a window ends, None when fewer rows are left: read from the index alone."""
    order = search.moment if cursor.is_backward else f"-{search.moment}"
    moments = base.order_by(order).values_list(search.moment, flat=True)
    return next(iter(moments[bounds.window_rows - 1 : bounds.window_rows]), None)


def _merge(
    search: Search, found: Sequence[_Found], cursor: Cursor, bounds: Bounds
) -> tuple[list[Any], Position | None]:
    """Return the rows of all branches in order, each once, as far as every branch has been searched."""
    sign = 1 if cursor.is_backward else -1

    def rank(moment: Any, row_id: int) -> tuple[int, int]:
        return sign * (to_us(moment) if isinstance(moment, datetime) else moment), sign * row_id

    stops = [part.stopped_at for part in found if part.stopped_at is not None]
    stopped_at = min(stops, key=lambda stop: rank(stop.moment, stop.id), default=None)
    merged = heapq.merge(*(part.rows for part in found), key=lambda row: rank(getattr(row, search.moment), row.pk))
    once = {row.pk: row for row in merged}.values()
    if stopped_at is not None:
        limit = rank(stopped_at.moment, stopped_at.id)
        once_in_reach = [row for row in once if rank(getattr(row, search.moment), row.pk) <= limit]
        return once_in_reach[: bounds.rows + 1], stopped_at
    return list(islice(once, bounds.rows + 1)), None


def _ordered(search: Search, rows: QuerySet[Any], cursor: Cursor) -> QuerySet[Any]:
    return rows.order_by(search.moment, "pk") if cursor.is_backward else rows.order_by(f"-{search.moment}", "-pk")


def _beyond(rows: QuerySet[Any], search: Search, position: Position | None, *, is_backward: bool) -> QuerySet[Any]:
    """Return the rows behind a position. The bound on the moment alone comes first: it is what indexes know."""
    if position is None:
        return rows
    including, excluding, of_id = ("gte", "gt", "pk__gt") if is_backward else ("lte", "lt", "pk__lt")
    return rows.filter(**{f"{search.moment}__{including}": position.moment}).filter(
        Q(**{f"{search.moment}__{excluding}": position.moment}) | Q(**{of_id: position.id})
    )


def _position(search: Search, row: Any) -> Position:
    return Position(moment=getattr(row, search.moment), id=row.pk)

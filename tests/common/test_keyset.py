"""Keyset pages: every row once and in order, whichever way they are read and however little time there is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import Q

from common.keyset import Bounds, Cursor, Page, Search, parse_cursor, read_page
from keys.models import ActorKind, AuditEvent

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, tzinfo=UTC)


def make_events(count: int = 23) -> list[int]:
    """Append events, three of each moment, and return their ids in the order of the list: newest first."""
    for number in range(count):
        AuditEvent.objects.create(
            created_at=START + timedelta(seconds=number // 3),
            actor_kind=ActorKind.SYSTEM,
            actor_name="even" if number % 2 == 0 else "odd",
            action="test.rare" if number in (0, 22) else "test.usual",
            object_kind="test",
        )
    return list(AuditEvent.objects.order_by("-created_at", "-id").values_list("pk", flat=True))


def make_search(*conditions: Q, **options: Any) -> Search:
    base = AuditEvent.objects.all()
    return Search(**{"wanted": base.filter(*conditions), "base": base, "moment": "created_at", **options})


def walk(search: Search, bounds: Bounds, *, is_backward: bool = False) -> list[Page]:
    """Follow the links of the pages from one end to the other, as they stand in addresses."""
    cursor: Cursor | None = Cursor(is_backward=is_backward)
    pages: list[Page] = []
    while cursor is not None and len(pages) < 100:
        page = read_page(search, parse_cursor(cursor.as_text(), is_datetime=True), bounds)
        pages.append(page)
        cursor = page.preceding if is_backward else page.following
    return pages


def ids(pages: list[Page]) -> list[int]:
    return [row.pk for page in pages for row in page.rows]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 23, 50])
def test_pages_have_every_row_once_both_ways(rows: int) -> None:
    expected = make_events()
    bounds = Bounds(rows=rows)
    assert ids(walk(make_search(), bounds)) == expected
    assert ids(walk(make_search(), bounds, is_backward=True)[::-1]) == expected


@pytest.mark.parametrize("is_backward", [False, True])
@pytest.mark.parametrize("window_rows", [1, 4, 100])
def test_a_search_without_an_index_finds_every_row_with_no_time_at_all(is_backward: bool, window_rows: int) -> None:
    make_events()
    bounds = Bounds(rows=5, window_rows=window_rows, seconds=0)
    pages = walk(make_search(Q(action="test.rare"), is_indexed=False), bounds, is_backward=is_backward)
    found = ids(pages[::-1] if is_backward else pages)
    assert found == list(AuditEvent.objects.filter(action="test.rare").order_by("-id").values_list("pk", flat=True))
    if window_rows < 23:
        assert pages[0].searched_to is not None, "the first page says how far it has come"
    assert pages[-1].searched_to is None


@pytest.mark.parametrize("seconds", [0, 100])
def test_branches_are_merged_in_order_and_a_row_of_several_comes_once(seconds: int) -> None:
    expected = make_events()
    branches = (Q(actor_name="even"), Q(actor_name="odd"), Q(action="test.rare"))
    search = make_search(branches=branches)
    assert ids(walk(search, Bounds(rows=4))) == expected
    unindexed = make_search(Q(action="test.rare"), branches=branches, is_indexed=False)
    pages = walk(unindexed, Bounds(rows=4, window_rows=2, seconds=seconds))
    assert ids(pages) == [expected[0], expected[-1]]


@pytest.mark.parametrize("text", ["", "x", "b", "bx.1", "b1.", "b99999999999999999999.1", "b-1", "a1.2.3", "b1.1e3"])
def test_what_is_no_cursor_is_the_first_page(text: str) -> None:
    expected = make_events(3)
    page = read_page(make_search(), parse_cursor(text, is_datetime=True), Bounds())
    assert [row.pk for row in page.rows] == expected

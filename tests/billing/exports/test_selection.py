from datetime import UTC, datetime, timedelta

import pytest

from billing.errors import ExportInvalid
from billing.export_models import ExportAudience
from billing.exports import make_selection, parse_moment
from common.clock import FrozenClock, to_us
from tests.admitting import make_context, run
from tests.exporting import END, START, order
from tests.factories import funded_call

LATER = END + timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", START),
        ("2026-11-01T00:00:00Z", START),
        ("2026-11-01T00:00", START),
        ("2026-11-01T02:00:00+02:00", START),
    ],
)
def test_a_moment_is_read_in_utc(text: str, moment: datetime) -> None:
    assert parse_moment(text, param="from") == moment


@pytest.mark.parametrize("text", ["soon", "", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1969-12-31"])
def test_what_is_no_moment_is_refused_with_its_parameter(text: str) -> None:
    with pytest.raises(ExportInvalid) as caught:
        parse_moment(text, param="to")
    assert caught.value.param == "to"


def test_what_cannot_be_exported_is_refused_at_once() -> None:
    with pytest.raises(ExportInvalid, match="usage, ledger"):
        make_selection("jobs", start=START, end=END)
    with pytest.raises(ExportInvalid, match="range is empty"):
        make_selection("usage", start=END, end=START)
    with pytest.raises(ExportInvalid, match="range is empty"):
        make_selection("usage", start=START, end=START)
    with pytest.raises(ExportInvalid, match="time zone"):
        make_selection("usage", start=START.replace(tzinfo=None), end=END)
    with pytest.raises(ExportInvalid, match="needs the customer"):
        make_selection("usage", start=START, end=END, audience=ExportAudience.CUSTOMER)
    with pytest.raises(ExportInvalid, match="no format 'pdf'"):
        order("usage", "pdf")
    with pytest.raises(ExportInvalid, match="'focus' cannot hold ledger; these can: csv"):
        order("ledger", "focus")
    with pytest.raises(ExportInvalid, match="whole ledger"):
        order("ledger", "beancount", customer_id=1)


@pytest.mark.django_db
def test_a_range_is_closed_when_its_end_has_passed_and_nothing_of_it_is_in_flight() -> None:
    usage, ledger = order("usage").selection, order("ledger").selection
    assert not usage.is_closed(END)
    assert usage.is_closed(LATER)
    call = funded_call()
    clock = FrozenClock(to_us(END - timedelta(seconds=1)))
    question = call.admit()
    run(question, context=make_context(clock))
    assert not usage.is_closed(LATER)
    assert order("usage", end=END - timedelta(days=1)).selection.is_closed(LATER)
    assert ledger.is_closed(LATER)
    run(call.settle(question.request_id, started_us=clock.now_us()), context=make_context(clock))
    assert usage.is_closed(LATER)


def test_a_selection_is_in_utc() -> None:
    selection = make_selection("usage", start=datetime.fromisoformat("2026-11-01T02:00:00+02:00"), end=END)
    assert (selection.start, selection.start.tzinfo) == (START, UTC)

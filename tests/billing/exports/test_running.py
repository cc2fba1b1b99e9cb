import hashlib
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from billing.errors import ExportInvalid
from billing.export_models import ExportAudience, ExportRun
from billing.exports import FORMATS, compute_figures, start_download, write_file
from billing.exports.running import get_customer_run, record_run
from common.errors import NotFound
from tests.exporting import COST, START, content, order, settle_one
from tests.factories import funded_call, make_customer

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("format_name", list(FORMATS))
def test_the_record_of_a_download_says_what_was_in_it(format_name: str) -> None:
    settle_one(funded_call(), at=START)
    dataset = "ledger" if format_name == "beancount" else "usage"
    wanted = order(dataset, format_name, end=START + timedelta(days=1))
    download = start_download(wanted)
    file = b"".join(download.chunks)
    run = ExportRun.objects.get(public_id=download.public_id)
    assert (run.sha256, run.byte_count) == (hashlib.sha256(file).hexdigest(), len(file))
    assert (run.total_nanousd, run.author) == (COST, "tests")
    assert run.row_count == {"focus": 3}.get(format_name, 1)
    assert file == content(wanted)


def test_a_whole_file_has_its_record_before_its_last_byte_leaves() -> None:
    settle_one(funded_call(), at=START)
    chunks = start_download(order()).chunks
    next(chunks)
    assert not ExportRun.objects.exists()
    next(chunks)
    assert ExportRun.objects.exists()


def test_a_file_that_broke_off_has_no_record() -> None:
    settle_one(funded_call(), at=START)
    chunks = start_download(order()).chunks
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert not ExportRun.objects.exists()


def test_a_file_and_its_repetition_have_the_same_figures() -> None:
    settle_one(funded_call(), at=START)
    sink = io.BytesIO()
    assert write_file(order(), sink) == compute_figures(order())
    assert not ExportRun.objects.exists()


def test_a_record_is_never_changed() -> None:
    run = record_run(order(), compute_figures(order()), is_closed=True)
    with pytest.raises(DatabaseError), transaction.atomic():
        ExportRun.objects.filter(pk=run.pk).update(row_count=7)
    with pytest.raises(DatabaseError), transaction.atomic():
        run.delete()


def test_the_database_refuses_a_customers_file_without_the_customer() -> None:
    run = record_run(order(), compute_figures(order()), is_closed=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        ExportRun.objects.create(
            **{
                **{f.attname: getattr(run, f.attname) for f in ExportRun._meta.concrete_fields if f.name != "id"},
                "public_id": "exp_other",
                "audience": ExportAudience.CUSTOMER,
            }
        )


def test_a_customer_finds_its_own_records_only() -> None:
    mine, other = make_customer(), make_customer()
    wanted = order("usage", customer_id=mine.pk, audience=ExportAudience.CUSTOMER)
    run = record_run(wanted, compute_figures(wanted), is_closed=False)
    assert get_customer_run(mine.pk, run.public_id) == run
    operators = order("usage", customer_id=mine.pk)
    internal = record_run(operators, compute_figures(operators), is_closed=False)
    for customer_id, public_id in ((other.pk, run.public_id), (mine.pk, internal.public_id), (mine.pk, "exp_none")):
        with pytest.raises(NotFound):
            get_customer_run(customer_id, public_id)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), "tollkeeper-usage-2026-11-01-2026-12-01.csv"),
        (datetime(2026, 11, 1, 8, tzinfo=UTC), "tollkeeper-usage-2026-11-01T080000-2026-12-01.csv"),
        (datetime(2026, 11, 1, 8, 0, 0, 5, tzinfo=UTC), "tollkeeper-usage-2026-11-01T080000000005-2026-12-01.csv"),
    ],
)
def test_the_name_of_a_file_tells_its_range(start: datetime, name: str) -> None:
    assert order(start=start).filename == name


def test_an_order_that_no_file_can_hold_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ExportInvalid) as caught:
        order("ledger", "focus")
    assert (caught.value.code, caught.value.param) == ("invalid_export", "format")

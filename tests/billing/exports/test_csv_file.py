import csv
import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.exports import DATASETS, reading
from billing.exports.cells import write_plain
from billing.exports.csv_file import quote
from billing.ledger import grant_credit
from billing.models import UsageRecord
from tests.exporting import ALWAYS, COST, END, START, settle_one, text
from tests.factories import FundedCall, funded_call, make_customer

pytestmark = pytest.mark.django_db
REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "exports.md"


@pytest.fixture
def call() -> FundedCall:
    return funded_call()


def parse(file: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file, newline="")))


def test_usage_is_exact_and_complete(call: FundedCall) -> None:
    at = datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=UTC)
    request_id = settle_one(call, at=at, tags='{"team": "b", "app": "a"}', ttft_ms=None, upstream_ms=31)
    (row,) = parse(text("usage"))
    assert row["request_id"] == request_id
    assert row["started_at"] == "2026-11-21T12:00:00.000005Z"
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == ("3", "2", "7")
    assert (row["cost_nanousd"], row["cost_usd"]) == (str(COST), "0.000033")
    assert Decimal(row["charged_usd"]) * 10**9 == int(row["charged_nanousd"]) == COST
    assert (row["customer_id"], row["key_id"]) == (
        call.principal.customer_public_id,
        call.principal.key_public_id,
    )
    assert (row["is_stream"], row["ttft_ms"], row["upstream_ms"]) == ("true", "", "31")
    assert row["tags"] == '{"app":"a","team":"b"}'


def test_the_ledger_names_accounts_and_amounts() -> None:
    call = funded_call(credit_nanousd=9 * 10**15 + 1)
    request_id = settle_one(call, at=datetime(2026, 11, 21, tzinfo=UTC))
    rows = parse(text("ledger", start=ALWAYS[0], end=ALWAYS[1]))
    by_kind = {row["kind"]: row for row in rows}
    credit, pending, post = by_kind["direct"], by_kind["pending"], by_kind["post"]
    assert credit["amount_usd"] == "9000000.000000001"
    assert (credit["debit_account"], credit["credit_account"]) == (
        "platform:credit",
        f"customer:{call.customer_id}",
    )
    assert {row["customer_id"] for row in rows} == {call.principal.customer_public_id}
    assert (post["pending_id"], post["request_id"]) == (pending["id"], request_id)
    assert post["amount_nanousd"] == str(COST)
    assert (credit["reason"], credit["author"], credit["request_id"]) == ("for a test", "tests", "")


@pytest.mark.parametrize("dataset", list(DATASETS))
def test_the_documented_columns_are_the_columns(dataset: str) -> None:
    section = REFERENCE.read_text().split(f"## Columns of {dataset}\n")[1].split("\n## ")[0]
    names = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert names == [column.name for column in DATASETS[dataset].columns]
    assert text(dataset).splitlines()[0] == ",".join(names)
    internal = re.findall(r"^\| `(\w+)` \| no \|", section, re.MULTILINE)
    assert internal == [column.name for column in DATASETS[dataset].columns if column.is_internal]


@pytest.mark.parametrize("fraction_us", [0, 1, 120_000, 999_999])
def test_moments_have_six_decimals_however_they_are_stored(call: FundedCall, fraction_us: int) -> None:
    settle_one(call, at=START + timedelta(microseconds=fraction_us))
    (row,) = parse(text("usage"))
    assert row["started_at"] == f"2026-11-01T00:00:00.{fraction_us:06d}Z"


def test_the_range_is_half_open(call: FundedCall) -> None:
    moments = [START - timedelta(microseconds=1), START, END - timedelta(microseconds=1), END]
    ids = [settle_one(call, at=at) for at in moments]
    assert [row["request_id"] for row in parse(text("usage"))] == ids[1:3]


def test_a_range_is_read_in_any_offset(call: FundedCall) -> None:
    request_id = settle_one(call, at=START)
    east = datetime.fromisoformat("2026-11-01T05:30:00+05:30")
    assert [row["request_id"] for row in parse(text("usage", start=east))] == [request_id]


@pytest.mark.parametrize("rows_a_read", [1, 2, 3, 7])
def test_no_row_is_lost_or_doubled_between_reads(
    call: FundedCall, monkeypatch: pytest.MonkeyPatch, rows_a_read: int
) -> None:
    same, later = datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 2, 1, tzinfo=UTC)
    ids = [settle_one(call, at=same) for _ in range(5)]
    # Settled last, though it began first.
    first = settle_one(call, at=later)
    monkeypatch.setattr(reading, "_ROWS_A_READ", rows_a_read)
    assert [row["request_id"] for row in parse(text("usage"))] == [first, *ids]
    moment = UsageRecord.objects.earliest("id").settled_at
    ledger = parse(text("ledger", start=moment - timedelta(days=2), end=moment + timedelta(seconds=1)))
    assert len(ledger) == 12
    assert ledger == sorted(ledger, key=lambda row: (row["created_at"], int(row["id"])))


def test_a_closed_range_gives_the_same_bytes(call: FundedCall) -> None:
    for day in (3, 5, 4):
        settle_one(call, at=datetime(2026, 11, day, tzinfo=UTC))
    first = text("usage"), text("ledger")
    settle_one(call, at=END + timedelta(days=1))
    assert (text("usage"), text("ledger")) == first


@pytest.mark.parametrize(("dataset", "count"), [("usage", 2), ("ledger", 5)])
def test_one_customers_rows_are_its_own(dataset: str, count: int) -> None:
    mine, other = funded_call(), funded_call()
    for call in (mine, other, mine):
        settle_one(call, at=START)
    rows = parse(text(dataset, start=ALWAYS[0], end=ALWAYS[1], customer_id=mine.customer_id))
    assert len(rows) == count
    assert {row["customer_id"] for row in rows} == {mine.principal.customer_public_id}


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_text_is_taken_for_a_formula(call: FundedCall, start: str) -> None:
    settle_one(call, at=START, end_user=start)
    (row,) = parse(text("usage"))
    assert row["end_user"] == f"'{start}"


def test_text_is_quoted_after_rfc_4180() -> None:
    awkward = 'He said "a, b"\r\nand left'
    customer = make_customer(credit_usd="0")
    grant_credit(customer_id=customer.pk, amount_nanousd=1, reason=awkward, author="ü")
    file = text("ledger", start=ALWAYS[0], end=ALWAYS[1])
    assert '"He said ""a, b""\r\nand left",ü\r\n' in file
    assert parse(file)[-1]["reason"] == awkward


@given(st.lists(st.text(alphabet=st.sampled_from('a ,"\r\n;\t=ü')), min_size=2, max_size=5))
def test_cells_are_quoted_as_the_csv_module_does(cells: list[str]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    assert ",".join(map(quote, cells)) + "\r\n" == buffer.getvalue()


@given(st.text())
def test_what_is_written_never_begins_a_formula(value: str) -> None:
    assert not write_plain(value).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert write_plain(value).removeprefix("'") == value.removeprefix("'")

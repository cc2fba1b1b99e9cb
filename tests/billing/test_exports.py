import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing import exports
from billing.errors import ExportInvalid
from billing.exports import KINDS, export_rows, parse_moment
from billing.ledger import grant_credit
from billing.models import UsageRecord
from billing.tokens import TokenCounts
from common.clock import FrozenClock, to_us
from gateway.admission.batch import BatchContext
from tests.admitting import make_context, run
from tests.factories import FundedCall, funded_call, make_customer

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
# At 1 and 4 USD per million tokens.
TOKENS = TokenCounts(input=3, cache_read=2, output=7)
COST = 3 * 1_000 + 2 * 1_000 + 7 * 4_000


@pytest.fixture
def call() -> FundedCall:
    return funded_call()


def settle_one(call: FundedCall, *, at: datetime, **fields: Any) -> str:
    """Book one whole call that began at `at`; return its request id."""
    context: BatchContext = make_context(FrozenClock(to_us(at)))
    fresh = call.refreshed()
    question = fresh.admit()
    run(question, context=context)
    command = fresh.settle(question.request_id, cost_nanousd=COST, tokens=TOKENS, started_us=to_us(at))
    run(replace(command, usage=replace(command.usage, **fields)), context=context)
    return question.request_id


def text_of(kind: str, start: datetime = START, end: datetime = END) -> str:
    return "".join(export_rows(kind, start=start, end=end))


def parse(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_usage_is_exact_and_complete(call: FundedCall) -> None:
    at = datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=UTC)
    request_id = settle_one(call, at=at, tags='{"team": "b", "app": "a"}', ttft_ms=None, upstream_ms=31)
    (row,) = parse(text_of("usage"))
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
    rows = parse(text_of("ledger", datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)))
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


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_documented_columns_are_the_columns(kind: str) -> None:
    documentation = exports.__doc__ or ""
    listed = documentation.split(f"\n{kind}:")[1].split("\nledger:")[0].split("\n\n")[0]
    names = [name.strip() for name in listed.replace("\n", " ").split(",")]
    header = next(export_rows(kind, start=START, end=END))
    assert header == ",".join(names) + "\r\n"


def test_the_range_is_half_open(call: FundedCall) -> None:
    moments = [START - timedelta(microseconds=1), START, END - timedelta(microseconds=1), END]
    ids = [settle_one(call, at=at) for at in moments]
    assert [row["request_id"] for row in parse(text_of("usage"))] == ids[1:3]


@pytest.mark.parametrize("rows_a_read", [1, 2, 3, 7])
def test_no_row_is_lost_or_doubled_between_reads(
    call: FundedCall, monkeypatch: pytest.MonkeyPatch, rows_a_read: int
) -> None:
    same, later = datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 2, 1, tzinfo=UTC)
    ids = [settle_one(call, at=same) for _ in range(5)]
    # Settled last, though it began first.
    first = settle_one(call, at=later)
    monkeypatch.setattr(exports, "_ROWS_A_READ", rows_a_read)
    assert [row["request_id"] for row in parse(text_of("usage"))] == [first, *ids]
    moment = UsageRecord.objects.earliest("id").settled_at
    ledger = parse(text_of("ledger", moment - timedelta(days=2), moment + timedelta(seconds=1)))
    assert len(ledger) == 12
    assert ledger == sorted(ledger, key=lambda row: (row["created_at"], int(row["id"])))


def test_a_closed_range_gives_the_same_bytes(call: FundedCall) -> None:
    for day in (3, 5, 4):
        settle_one(call, at=datetime(2026, 11, day, tzinfo=UTC))
    first = text_of("usage"), text_of("ledger")
    settle_one(call, at=END + timedelta(days=1))
    assert (text_of("usage"), text_of("ledger")) == first


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_text_is_taken_for_a_formula(call: FundedCall, start: str) -> None:
    settle_one(call, at=START, end_user=start)
    (row,) = parse(text_of("usage"))
    assert row["end_user"] == f"'{start}"


def test_text_is_quoted_after_rfc_4180(call: FundedCall) -> None:
    awkward = 'He said "a, b"\r\nand left'
    customer = make_customer(credit_usd="0")
    grant_credit(customer_id=customer.pk, amount_nanousd=1, reason=awkward, author="ü")
    now = datetime.now(UTC)
    text = text_of("ledger", now - timedelta(hours=1), now + timedelta(hours=1))
    assert '"He said ""a, b""\r\nand left",ü\r\n' in text
    assert parse(text)[-1]["reason"] == awkward


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


def test_what_cannot_be_exported_is_refused_at_once() -> None:
    with pytest.raises(ExportInvalid, match="usage, ledger"):
        export_rows("invoices", start=START, end=END)
    with pytest.raises(ExportInvalid, match="range is empty"):
        export_rows("usage", start=END, end=START)
    with pytest.raises(ExportInvalid, match="range is empty"):
        export_rows("usage", start=START, end=START)
    with pytest.raises(ExportInvalid, match="time zone"):
        export_rows("usage", start=START.replace(tzinfo=None), end=END)
    with pytest.raises(ExportInvalid, match="'soon' is no date"):
        parse_moment("soon", param="to")


# ---- the command


def run_export(kind: str, *arguments: object, start: str = "2026-11-01", end: str = "2026-12-01") -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("export", kind, "--from", start, "--to", end, *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_writes_the_file_and_its_control_figures(call: FundedCall, tmp_path: Path) -> None:
    settle_one(call, at=START)
    settle_one(call, at=START)
    target = tmp_path / "usage.csv"
    out, err = run_export("usage", "--format", "csv", "--output", str(target))
    content = target.read_bytes()
    assert content.decode() == text_of("usage")
    assert out == ""
    assert err.splitlines() == [
        "rows 2",
        "sum 0.000066 USD (charged)",
        f"sha256 {hashlib.sha256(content).hexdigest()}",
    ]


def test_the_command_writes_to_standard_output(call: FundedCall) -> None:
    settle_one(call, at=START)
    out, err = run_export("ledger", "--output", "-")
    assert out == text_of("ledger")
    assert err.startswith(f"rows {len(parse(out))}\n")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "usage.csv"
    target.write_text("the last good export")
    monkeypatch.setattr(exports, "_lines", _break_off)
    with pytest.raises(CommandError, match="disk full"):
        run_export("usage", "--output", str(target))
    assert target.read_text() == "the last good export"
    assert list(tmp_path.iterdir()) == [target]


def _break_off(*args: object) -> Iterator[tuple[str, int]]:
    yield "header\r\n", 0
    raise OSError(28, "disk full")


def test_the_command_explains_a_bad_range(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="'2026-11-31' is no date"):
        run_export("usage", start="2026-11-31")
    with pytest.raises(CommandError, match="range is empty"):
        run_export("usage", start="2026-12-01")
    with pytest.raises(CommandError, match="No such file or directory"):
        run_export("usage", "--output", str(tmp_path / "missing" / "usage.csv"))

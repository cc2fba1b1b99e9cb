import hashlib
import io
from pathlib import Path
from typing import BinaryIO

import pytest
from django.core.management import CommandError, call_command

from billing.export_models import ExportRun
from billing.exports import FORMATS
from billing.management.commands import export
from tests.exporting import START, content, order, settle_one, text
from tests.factories import funded_call, make_customer

pytestmark = pytest.mark.django_db


def run_export(dataset: str, *arguments: object, start: str = "2026-11-01", end: str = "2026-12-01") -> str:
    """Return what the command said on standard error."""
    err = io.StringIO()
    call_command("export", dataset, "--from", start, "--to", end, *arguments, stderr=err)
    return err.getvalue()


def test_it_writes_the_file_its_control_figures_and_the_record(tmp_path: Path) -> None:
    call = funded_call()
    settle_one(call, at=START)
    settle_one(call, at=START)
    target = tmp_path / "usage.csv"
    said = run_export("usage", "--output", str(target), end="2026-11-02").splitlines()
    file = target.read_bytes()
    run = ExportRun.objects.get()
    assert file.decode() == text("usage")
    assert said == [
        "rows 2",
        "sum 0.000066 USD (charged)",
        f"sha256 {hashlib.sha256(file).hexdigest()}",
        f"run {run.public_id}",
    ]
    assert (run.is_closed, run.author, run.row_count) == (True, "manage.py export", 2)


def test_it_writes_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    settle_one(funded_call(), at=START)
    run_export("ledger")
    assert capfdbinary.readouterr().out == content(order("ledger"))


@pytest.mark.parametrize("format_name", list(FORMATS))
def test_every_format_can_be_written(format_name: str, tmp_path: Path) -> None:
    settle_one(funded_call(), at=START)
    dataset = "ledger" if format_name == "beancount" else "usage"
    target = tmp_path / "file"
    run_export(dataset, "--format", format_name, "--output", str(target))
    assert target.read_bytes() == content(order(dataset, format_name))


def test_one_customer_is_named_by_its_public_id(tmp_path: Path) -> None:
    mine = funded_call()
    for call in (mine, funded_call()):
        settle_one(call, at=START)
    said = run_export("usage", "--customer", mine.principal.customer_public_id, "--output", str(tmp_path / "f"))
    assert said.startswith("rows 1\n")


def test_it_says_when_a_range_is_still_open(tmp_path: Path) -> None:
    assert "not closed yet" in run_export("usage", "--output", str(tmp_path / "f"), end="2099-01-01")


def test_a_file_that_cannot_be_finished_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "usage.csv"
    target.write_text("the last good export")

    def break_off(_: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "disk full")

    monkeypatch.setattr(export, "write_file", break_off)
    with pytest.raises(CommandError, match="disk full"):
        run_export("usage", "--output", str(target))
    assert target.read_text() == "the last good export"
    assert list(tmp_path.iterdir()) == [target]
    assert not ExportRun.objects.exists()


def test_it_explains_what_is_wrong(tmp_path: Path) -> None:
    make_customer()
    with pytest.raises(CommandError, match="'2026-11-31' is no date"):
        run_export("usage", start="2026-11-31")
    with pytest.raises(CommandError, match="range is empty"):
        run_export("usage", start="2026-12-01")
    with pytest.raises(CommandError, match="No such file or directory"):
        run_export("usage", "--output", str(tmp_path / "missing" / "usage.csv"))
    with pytest.raises(CommandError, match="no customer 'cus_none'"):
        run_export("usage", "--customer", "cus_none")
    with pytest.raises(CommandError, match="cannot hold ledger"):
        run_export("ledger", "--format", "focus")

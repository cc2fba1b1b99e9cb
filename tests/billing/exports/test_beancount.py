"""The journal, proved by bean-check, a program of the project beancount (GPL: it is called, never imported)."""

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from billing.accounts import get_balance
from billing.ledger import grant_credit
from common.money import format_usd
from tests.exporting import ALWAYS, COST, END, START, content, order, settle_one, text
from tests.factories import FundedCall, funded_call, make_customer

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def check(file: bytes, directory: Path) -> str:
    """Return what bean-check objects to; nothing when the journal is right."""
    program = shutil.which("bean-check", path=f"{Path(sys.executable).parent}")
    if program is None:
        pytest.skip("bean-check is not installed beside Python: pip install beancount")
    journal = directory / "ledger.beancount"
    journal.write_bytes(file)
    done = subprocess.run([program, "--no-cache", journal], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (done.stdout + done.stderr == "")
    return done.stdout + done.stderr


def account_of(call: FundedCall) -> str:
    return f"Liabilities:Customers:{call.principal.customer_public_id.replace('cus_', 'Cus-')}"


def test_bean_check_accepts_the_journal_and_its_balances_are_ours(tmp_path: Path) -> None:
    calls = [funded_call(), funded_call()]
    for number, call in enumerate([*calls, calls[0]]):
        settle_one(call, at=START + number * DAY)
    file = text("ledger", "beancount", start=START, end=END)
    assert check(file.encode(), tmp_path) == ""
    assert file.count('* "post"') == 3
    # Credit was granted by the machine's clock, so the whole of the books is in a wider range.
    start, end = ALWAYS[0], ALWAYS[1]
    whole = content(order("ledger", "beancount", start=start, end=end))
    assert check(whole, tmp_path) == ""
    asserted = [
        f"{end:%Y-%m-%d} balance {account_of(call)}  "
        f"{format_usd(-get_balance(call.customer_id).posted_nanousd, min_decimals=9)} USD\n"
        for call in calls
    ]
    assert check(whole + "".join(asserted).encode(), tmp_path) == ""


def test_a_closed_range_ends_with_what_the_database_adds_up(tmp_path: Path) -> None:
    call = funded_call()
    settle_one(call, at=START)
    file = text("ledger", "beancount", start=START, end=START + DAY)
    assert f"2026-11-02 balance {account_of(call)}  0.000033000 ~ 0 USD\n" in file
    assert check(file.encode(), tmp_path) == ""


def test_one_nanodollar_is_found(tmp_path: Path) -> None:
    settle_one(funded_call(), at=START)
    file = text("ledger", "beancount", start=START, end=START + DAY)
    assert "0.000033000 USD" in file
    broken = file.replace("  Income:Revenue  -0.000033000 USD", "  Income:Revenue  -0.000033001 USD", 1)
    assert "does not balance" in check(broken.encode(), tmp_path)
    moved = file.replace("  0.000033000 USD", "  0.000033001 USD").replace("  -0.000033000 USD", "  -0.000033001 USD")
    assert "Balance failed" in check(moved.encode(), tmp_path)


def test_a_journal_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    call = funded_call()
    for days in (0, 1):
        settle_one(call, at=START + days * DAY)
    second = text("ledger", "beancount", start=START + DAY, end=START + 2 * DAY)
    assert 'Balances before this journal"\n' in second
    assert f"2026-11-03 balance {account_of(call)}  {format_usd(2 * COST, min_decimals=9)} ~ 0 USD\n" in second
    assert check(second.encode(), tmp_path) == ""


def test_holds_and_what_releases_them_are_no_transactions() -> None:
    call = funded_call()
    settle_one(call, at=START, cost_nanousd=0, status="failed", source="none")
    assert " * " not in text("ledger", "beancount", end=START + DAY)


def test_awkward_texts_stay_in_their_quotes(tmp_path: Path) -> None:
    customer = make_customer(credit_usd="0")
    reason = 'He said "a\\b"\r\n2026-11-01 open Assets:Injected USD'
    grant_credit(customer_id=customer.pk, amount_nanousd=1, reason=reason, author='ü"', reference="in-7")
    file = content(order("ledger", "beancount", start=ALWAYS[0], end=ALWAYS[1]))
    assert check(file, tmp_path) == ""
    assert b"\n2026-11-01 open" not in file
    assert b'reference: "in-7"' in file

"""A beancount journal of the ledger: one transaction for each movement of money, and assertions that prove it.

Holds, voids and expiries move nothing and are not in it. A customer's prepaid money is a liability, revenue is income,
granted credit an expense; so beancount shows a customer's balance with its sign turned. The journal opens with what
every account had before the range and, when the range is closed, ends with what it has after it, summed by the
database: `bean-check` fails unless both sides agree to the nano-dollar.
Source: https://beancount.github.io/docs/beancount_language_syntax.html
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from django.db import connection

from billing.exports.reading import read_batches
from billing.exports.selection import Selection, format_moment
from billing.exports.tally import Tally
from billing.models import AccountKind, TransferKind
from common.clock import to_us
from common.money import format_usd
from common.sql import Row, Sql

_READ = (
    "id",
    "created_at",
    "kind",
    "debit_account",
    "credit_account",
    "amount_nanousd",
    "request_id",
    "reference",
    "reason",
    "author",
)
_MOVING = (TransferKind.DIRECT.value, TransferKind.POST.value)
_ROOTS = {
    AccountKind.CUSTOMER.value: "Liabilities:Customers",
    AccountKind.REVENUE.value: "Income",
    AccountKind.CREDIT_SOURCE.value: "Expenses",
    AccountKind.CASH.value: "Assets",
    AccountKind.RECEIVABLE.value: "Assets:Receivable",
    AccountKind.SUSPENSE.value: "Income",
    AccountKind.PROVIDER_COST.value: "Expenses",
    AccountKind.PROVIDER_PAYABLE.value: "Liabilities",
    AccountKind.TAX.value: "Liabilities",
}
# Per account what it received less what it gave, of transfers before a moment.
_BALANCES = """
SELECT a.code, sum(m.amount) FROM (
    SELECT credit_account_id AS account_id, amount_nanousd AS amount, created_at FROM billing_transfer
    WHERE kind IN ('direct', 'post')
    UNION ALL
    SELECT debit_account_id, -amount_nanousd, created_at FROM billing_transfer WHERE kind IN ('direct', 'post')
) m JOIN billing_account a ON a.id = m.account_id WHERE m.created_at < %s GROUP BY a.code ORDER BY a.code
"""


def write_journal(selection: Selection, tally: Tally) -> Iterator[bytes]:
    """Yield the file in parts. Memory holds a line for each account; the rows pass through."""
    is_closed = selection.is_closed(datetime.now(UTC))
    sql = Sql(connection)
    opening, closing = _read_balances(sql, selection.start), _read_balances(sql, selection.end)
    names = _read_account_names(sql)
    day = f"{selection.start:%Y-%m-%d}"
    yield _encode([*_header(selection), *_open(day, (names[code] for code in closing)), ""])
    yield _encode(_opening_transaction(day, {names[code]: amount for code, amount in opening.items()}))
    opened = set(closing)
    columns = [selection.dataset.get_column(name) for name in _READ]
    for rows in read_batches(selection, columns):
        moving = [row for row in rows if row[2] in _MOVING]
        tally.add_rows(len(moving), sum(row[5] for row in moving))
        late = {code for row in moving for code in (row[3], row[4])} - opened
        if late:
            # Accounts that had their first transfer while the file was being written.
            names, opened = _read_account_names(sql), opened | late
            yield _encode(_open(day, sorted(names[code] for code in late)))
        yield b"".join(_encode(_transaction(row, names)) for row in moving)
    if is_closed:
        # Beancount asserts what an account has at the beginning of a day.
        last_day = f"{_next_midnight(selection.end):%Y-%m-%d}"
        yield _encode(
            f"{last_day} balance {names[code]}  {_amount(-amount)} ~ 0 USD" for code, amount in closing.items()
        )


def _header(selection: Selection) -> list[str]:
    title = f"Ledger {format_moment(selection.start)} to {format_moment(selection.end)}"
    return [f'option "title" "{title}"', 'option "operating_currency" "USD"', ""]


def _open(day: str, names: Iterable[str]) -> list[str]:
    return [f"{day} open {name} USD" for name in names]


def _read_balances(sql: Sql, before: datetime) -> dict[str, int]:
    return {code: int(amount) for code, amount in sql.rows(_BALANCES, (sql.moment(to_us(before)),))}


def _read_account_names(sql: Sql) -> dict[str, str]:
    """Return beancount's name of every account by its code."""
    rows = sql.rows(
        "SELECT a.code, a.kind, c.public_id FROM billing_account a LEFT JOIN keys_customer c ON c.id = a.customer_id"
    )
    return {code: _account_name(code, kind, public_id) for code, kind, public_id in rows}


def _account_name(code: str, kind: str, public_id: str | None) -> str:
    """Return a name of the shape that beancount wants: parts that begin with a capital, of letters, digits and -."""
    last = (public_id or code.rpartition(":")[2]).replace("_", "-")
    return f"{_ROOTS.get(kind, 'Equity')}:{last[0].upper()}{last[1:]}"


def _opening_transaction(day: str, balances: dict[str, int]) -> list[str]:
    moved = {name: amount for name, amount in balances.items() if amount}
    if not moved:
        return []
    # Every transfer has two sides, so that these add up to nothing.
    return [f'{day} * "Balances before this journal"', *_postings((n, -a) for n, a in moved.items()), ""]


def _transaction(row: Row, names: dict[str, str]) -> list[str]:
    transfer_id, created_at, kind, debit, credit, amount, request_id, reference, reason, author = row
    lines = [f"{created_at[:10]} * {_quote(reason or kind)}", f"  transfer: {transfer_id}", f'  time: "{created_at}"']
    for key, text in (("request", request_id), ("reference", reference), ("author", author)):
        if text:
            lines.append(f"  {key}: {_quote(text)}")
    return [*lines, *_postings([(names[debit], amount), (names[credit], -amount)]), ""]


def _postings(amounts: Iterable[tuple[str, int]]) -> list[str]:
    return [f"  {name}  {_amount(amount)} USD" for name, amount in amounts]


def _amount(amount_nanousd: int) -> str:
    # All nine decimals: beancount tolerates half of the last digit that is written.
    return format_usd(amount_nanousd, min_decimals=9)


def _quote(text: str) -> str:
    plain = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


def _next_midnight(moment: datetime) -> datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if day == moment else day + timedelta(days=1)


def _encode(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()

"""Checks on usage records: what they cost by their price, and what the ledger moved for them."""

from collections.abc import Iterator

from billing.models import UsageSource
from billing.pricing import PriceBook, Rates, read_price_book
from billing.reconciliation.report import MAX_LISTED, CheckResult, Difference, conclude
from billing.tokens import TOKEN_CLASSES, TokenCounts
from common.sql import Sql

_ROWS_A_READ = 5_000
_TOKEN_COLUMNS = ", ".join(f"{token_class}_tokens" for token_class in TOKEN_CLASSES)
_RECORDS = (
    "SELECT id, request_id, price_version_id, source, cost_nanousd, charged_nanousd, provider_cost_nanousd, flags,"
    f" {_TOKEN_COLUMNS} FROM billing_usagerecord WHERE id > %s ORDER BY id LIMIT {_ROWS_A_READ}"
)

# Both sides run along the unique indexes of request ids, so that nothing is sorted or kept.
_MOVED = """coalesce((
    SELECT sum(t.amount_nanousd) FROM billing_transfer t JOIN billing_account a ON a.id = t.debit_account_id
    WHERE t.request_id = u.request_id AND t.kind IN ('post', 'direct') AND a.customer_id = u.customer_id
), 0)"""
_UNEQUAL_CHARGES = f"""
SELECT u.request_id, u.charged, {_MOVED} FROM (
    SELECT request_id, min(customer_id) AS customer_id, sum(charged_nanousd) AS charged
    FROM billing_usagerecord GROUP BY request_id
) u WHERE u.charged <> {_MOVED} ORDER BY u.request_id LIMIT {MAX_LISTED + 1}
"""
_CHARGES_WITHOUT_USAGE = f"""
SELECT t.id, t.kind, t.request_id, t.amount_nanousd FROM billing_transfer t
WHERE t.kind IN ('post', 'direct') AND t.request_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM billing_usagerecord u WHERE u.request_id = t.request_id)
ORDER BY t.id LIMIT {MAX_LISTED + 1}
"""


def check_costs(sql: Sql) -> CheckResult:
    """Every record costs its tokens at its price version, and less is charged only where a flag says why."""
    prices = read_price_book(sql)
    differences: list[Difference] = []
    examined = 0
    for row in _records(sql):
        examined += 1
        if len(differences) <= MAX_LISTED:
            differences += _cost_differences(row, prices)
    return conclude(
        "usage costs",
        "each cost is its tokens at its price version, and is charged unless flagged",
        examined=examined,
        differences=differences,
    )


def _records(sql: Sql) -> Iterator[tuple[int, ...]]:
    last_id = 0
    while rows := sql.rows(_RECORDS, (last_id,)):
        yield from rows
        last_id = rows[-1][0]


def _cost_differences(row: tuple[int, ...], prices: PriceBook) -> Iterator[Difference]:
    record_id, request_id, version_id, source, cost, charged, provider_cost, flags, *counts = row
    name = f"usage {record_id} ({request_id})"
    try:
        price = prices.get_version(version_id)
    except KeyError:
        yield Difference(row=name, what="its price version", expected="a version", found=version_id)
        return
    tokens = TokenCounts(**dict(zip(TOKEN_CLASSES, counts, strict=True)))
    produced = str(source) != UsageSource.NONE.value
    for what, rates, found in (
        ("cost_nanousd", price.rates, cost),
        ("provider_cost_nanousd", price.provider_rates, provider_cost),
    ):
        expected = _cost(rates, tokens, is_produced=produced)
        if found != expected:
            yield Difference(row=name, what=what, expected=expected, found=found)
    if charged < cost and not flags:
        expected_text = f"cost_nanousd ({cost}), as no flag says otherwise"
        yield Difference(row=name, what="charged_nanousd", expected=expected_text, found=charged)
    if charged > cost:
        yield Difference(row=name, what="charged_nanousd", expected=f"at most {cost}", found=charged)


def _cost(rates: Rates, tokens: TokenCounts, *, is_produced: bool) -> int:
    # A call that produced nothing pays nothing, not even the price of a request.
    return rates.cost(tokens) if is_produced else 0


def check_charges(sql: Sql) -> CheckResult:
    """What records say was charged for a request is what the ledger moved for it, on the customer's account."""
    differences = [
        Difference(row=f"request {request_id}", what="charged_nanousd", expected=int(moved), found=int(charged))
        for request_id, charged, moved in sql.rows(_UNEQUAL_CHARGES)
    ]
    differences += [
        Difference(
            row=f"transfer {transfer_id} ({kind} of {amount} nano-USD, {request_id})",
            what="its usage record",
            expected="one",
            found="missing",
        )
        for transfer_id, kind, request_id, amount in sql.rows(_CHARGES_WITHOUT_USAGE)
    ]
    ((examined,),) = sql.rows(
        "SELECT count(*) FROM billing_transfer WHERE kind IN ('post', 'direct') AND request_id IS NOT NULL"
    )
    return conclude(
        "charges",
        "what was charged for each request is what the ledger moved",
        examined=examined,
        differences=differences,
    )

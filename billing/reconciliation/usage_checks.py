"""Checks on usage records: what they cost by their price, and what the ledger moved for them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

from billing.attempts import cost_of_use, unpack_attempts
from billing.models import REUSED_STATES, UsageSource
from billing.pricing import PriceBook, read_price_book
from billing.rates import Processing
from billing.reconciliation.report import MAX_LISTED, CheckResult, Difference, conclude
from billing.reuse import cost_of_reuse
from billing.tokens import TOKEN_CLASSES, TokenCounts, add_tokens
from billing.waiving import is_waived
from common.clock import to_us
from common.sql import Row, Sql

_ROWS_A_READ = 5_000
_REUSED = frozenset(state.value for state in REUSED_STATES)
_TOKEN_COLUMNS = ", ".join(f"{token_class}_tokens" for token_class in TOKEN_CLASSES)
_RECORDS = (
    "SELECT id, request_id, price_version_id, price_terms_id, processing, source, cost_nanousd, charged_nanousd,"
    f" provider_cost_nanousd, flags, attempts, cache, reused_percent, saved_nanousd, {_TOKEN_COLUMNS}"
    " FROM billing_usagerecord"
    f" WHERE id > %s ORDER BY id LIMIT {_ROWS_A_READ}"
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
_WITHOUT_USAGE = """
FROM billing_transfer t WHERE t.kind IN ('post', 'direct') AND t.request_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM billing_usagerecord u WHERE u.request_id = t.request_id)
"""
# Charges of archived calls have no record to name, so theirs are compared as sums; a call is settled at most a day
# after it began.
_CHARGES_WITHOUT_USAGE = f"""
SELECT t.id, t.kind, t.request_id, t.amount_nanousd {_WITHOUT_USAGE} AND t.created_at >= %s
ORDER BY t.id LIMIT {MAX_LISTED + 1}
"""
_ARCHIVED_CHARGES = f"""
SELECT c.id, coalesce(h.charged, 0), coalesce(l.moved, 0) FROM keys_customer c
LEFT JOIN (SELECT customer_id, sum(charged_nanousd) AS charged FROM billing_usagehour GROUP BY customer_id) h
    ON h.customer_id = c.id
LEFT JOIN (
    SELECT a.customer_id, sum(m.amount_nanousd) AS moved
    FROM (SELECT t.debit_account_id, t.amount_nanousd {_WITHOUT_USAGE} AND t.created_at < %s) m
    JOIN billing_account a ON a.id = m.debit_account_id GROUP BY a.customer_id
) l ON l.customer_id = c.id
WHERE coalesce(h.charged, 0) <> coalesce(l.moved, 0) ORDER BY c.id LIMIT {MAX_LISTED + 1}
"""
_SETTLED_WITHIN_US = 86_400_000_000


def check_costs(sql: Sql) -> CheckResult:
    """Every record costs its tokens at its price under its terms, and less is charged only where a flag says why."""
    prices = read_price_book(sql)
    differences: list[Difference] = []
    examined = 0
    for row in _records(sql):
        examined += 1
        if len(differences) <= MAX_LISTED:
            differences += _cost_differences(row, prices)
    return conclude(
        "usage costs",
        "each cost is its tokens at its price version and terms, and is charged unless flagged",
        examined=examined,
        differences=differences,
    )


def _records(sql: Sql) -> Iterator[Row]:
    last_id = 0
    while rows := sql.rows(_RECORDS, (last_id,)):
        yield from rows
        last_id = rows[-1][0]


def _cost_differences(row: Row, prices: PriceBook) -> Iterator[Difference]:
    record_id, request_id, version_id, terms_id, processed, source, cost, charged, provider_cost, flags, *rest = row
    packed, cache, percent, saved, *counts = rest
    name = f"usage {record_id} ({request_id})"
    try:
        price = prices.get_applied(version_id, terms_id)
    except KeyError:
        found = f"version {version_id}, terms {terms_id}"
        yield Difference(row=name, what="its price", expected="a version, and terms where it names some", found=found)
        return
    tokens = TokenCounts(**dict(zip(TOKEN_CLASSES, counts, strict=True)))
    attempts = unpack_attempts(packed)
    if attempts and add_tokens(attempts) != tokens:
        yield Difference(row=name, what="its tokens", expected=f"the sum of its attempts {packed}", found=str(counts))
    produced = source != UsageSource.NONE.value
    processing = Processing(processed)
    # A call that produced nothing pays nothing, not even the price of a request.
    full, provider_full = (
        cost_of_use(table, tokens, attempts, processing) if produced else 0
        for table in (price.table, price.provider_table)
    )
    is_reused = cache in _REUSED
    if is_reused and produced:
        full = cost_of_reuse(price.table, tokens, processing, percent=percent)
    for what, expected, found in (
        ("cost_nanousd", full, cost),
        ("provider_cost_nanousd", 0 if is_reused else provider_full, provider_cost),
        ("saved_nanousd", provider_full if is_reused else 0, saved),
    ):
        if found != expected:
            yield Difference(row=name, what=what, expected=expected, found=found)
    if charged and is_waived(flags):
        yield Difference(row=name, what="charged_nanousd", expected=f"0, as its flags say ({flags})", found=charged)
    if charged < cost and not flags:
        expected_text = f"cost_nanousd ({cost}), as no flag says otherwise"
        yield Difference(row=name, what="charged_nanousd", expected=expected_text, found=charged)
    if charged > cost:
        yield Difference(row=name, what="charged_nanousd", expected=f"at most {cost}", found=charged)


def _archived_to_us(sql: Sql) -> int:
    """Return the moment from which every charge has its record."""
    ((end,),) = sql.rows("SELECT max(day) FROM billing_usagearchive")
    if end is None:
        return 0
    day = date.fromisoformat(end) if isinstance(end, str) else end
    return to_us(datetime.combine(day, time(), tzinfo=UTC) + timedelta(days=1)) + _SETTLED_WITHIN_US


def check_charges(sql: Sql) -> CheckResult:
    """What records say was charged for a request is what the ledger moved for it, on the customer's account.

    Of archived calls the sums of each customer are compared.
    """
    archived_to = sql.moment(_archived_to_us(sql))
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
        for transfer_id, kind, request_id, amount in sql.rows(_CHARGES_WITHOUT_USAGE, (archived_to,))
    ]
    differences += [
        Difference(
            row=f"customer {customer_id}",
            what="charged_nanousd of archived calls",
            expected=int(moved),
            found=int(charged),
        )
        for customer_id, charged, moved in sql.rows(_ARCHIVED_CHARGES, (archived_to,))
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

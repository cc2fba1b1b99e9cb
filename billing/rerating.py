"""What calls of the past would have cost under another price: computed from usage records, nothing is written.

Each call is priced anew from its tokens, in the way it was processed and with the markup of the terms that applied to
it then. Calls that were priced by another list than the new price belongs to keep their cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from billing.attempts import cost_of_use, unpack_attempts
from billing.errors import RerateTooLarge
from billing.models import REUSED_STATES, Account, UsageSource
from billing.pricing import Price, read_price_book
from billing.rates import Processing
from billing.reuse import cost_of_reuse
from billing.tokens import TOKEN_CLASSES, TokenCounts
from common.clock import to_us
from common.sql import Row, Sql

_ROWS_A_READ = 5_000
_STATEMENT = (
    "SELECT started_at, id, customer_id, price_version_id, price_terms_id, processing, source, cost_nanousd,"
    " provider_cost_nanousd, attempts, cache, reused_percent,"
    f" {', '.join(f'{token_class}_tokens' for token_class in TOKEN_CLASSES)}"
    " FROM billing_usagerecord WHERE (started_at, id) > (%s, %s) AND started_at < %s AND model = %s"
    f" ORDER BY started_at, id LIMIT {_ROWS_A_READ}"
)


@dataclass(slots=True, kw_only=True)
class RerateSum:
    """Sums over calls, in nano-USD: as they were recorded, and as they would be."""

    calls: int = 0
    cost_nanousd: int = 0
    new_cost_nanousd: int = 0
    provider_cost_nanousd: int = 0
    new_provider_cost_nanousd: int = 0

    @property
    def difference_nanousd(self) -> int:
        return self.new_cost_nanousd - self.cost_nanousd


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRerate:
    """One customer's part."""

    customer_id: int
    name: str
    sums: RerateSum


@dataclass(frozen=True, slots=True, kw_only=True)
class RerateReport:
    """The answer: all calls together, and customers by the size of their difference."""

    start: datetime
    end: datetime
    total: RerateSum
    customers: tuple[CustomerRerate, ...]
    # Calls of the model that another price list applied to.
    calls_of_other_lists: int


def rerate(price: Price, *, start: datetime, end: datetime, most_calls: int | None = None) -> RerateReport:
    """Return what the calls of a model in [start, end) would have cost under `price` (see `pricing.draft_price`).

    Raises RerateTooLarge once more than `most_calls` were read: a page must answer within its time.
    """
    sql = Sql(connection)
    book = read_price_book(sql)
    by_terms: dict[int | None, Price] = {}
    by_customer: dict[int, RerateSum] = {}
    total = RerateSum()
    others = 0
    for row in _calls(sql, price.model, start, end):
        customer_id, version_id, terms_id, processed, source, cost, provider_cost, packed, *rest = row[2:]
        cache, percent, *counts = rest
        if book.get_version(version_id).price_list != price.price_list:
            others += 1
            continue
        if terms_id not in by_terms:
            by_terms[terms_id] = book.reprice(price, terms_id)
        applied = by_terms[terms_id]
        new_cost = new_provider_cost = 0
        if source != UsageSource.NONE.value:
            tokens = TokenCounts(**dict(zip(TOKEN_CLASSES, counts, strict=True)))
            processing = Processing(processed)
            attempts = unpack_attempts(packed)
            if cache in REUSED_STATES:
                new_cost = cost_of_reuse(applied.table, tokens, processing, percent=percent)
            else:
                new_cost = cost_of_use(applied.table, tokens, attempts, processing)
                new_provider_cost = cost_of_use(applied.provider_table, tokens, attempts, processing)
        for sums in (total, by_customer.setdefault(customer_id, RerateSum())):
            sums.calls += 1
            sums.cost_nanousd += cost
            sums.new_cost_nanousd += new_cost
            sums.provider_cost_nanousd += provider_cost
            sums.new_provider_cost_nanousd += new_provider_cost
        if most_calls is not None and total.calls > most_calls:
            raise RerateTooLarge(most_calls=most_calls)
    return RerateReport(
        start=start,
        end=end,
        total=total,
        customers=tuple(_named(by_customer)),
        calls_of_other_lists=others,
    )


def last_days(days: int, *, now: datetime) -> tuple[datetime, datetime]:
    """Return the range of the last `days` days up to now."""
    return now - timedelta(days=days), now


def _calls(sql: Sql, model: str, start: datetime, end: datetime) -> Iterator[Row]:
    last_us, last_id, end_us = to_us(start), 0, to_us(end)
    while rows := sql.rows(_STATEMENT, (sql.moment(last_us), last_id, sql.moment(end_us), model)):
        yield from rows
        last_us, last_id = to_us(rows[-1][0]), rows[-1][1]


def _named(by_customer: dict[int, RerateSum]) -> Iterator[CustomerRerate]:
    names = dict(Account.objects.filter(customer_id__in=by_customer).values_list("customer_id", "customer__name"))
    for customer_id, sums in sorted(by_customer.items(), key=lambda item: (-abs(item[1].difference_nanousd), item[0])):
        yield CustomerRerate(customer_id=customer_id, name=names.get(customer_id, "?"), sums=sums)

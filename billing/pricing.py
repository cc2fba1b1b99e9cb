"""Price versions as frozen values: which one counts for a call, with which markup, and how one is published."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction

from billing.bands import (
    ALL_COLUMNS,
    MAX_RATE_NANOUSD,
    PRICE_COLUMNS,
    PROVIDER_COLUMNS,
    RATE_COLUMNS,
    PriceBand,
    check_columns,
    complete_rates,
    make_table,
    store_bands,
)
from billing.errors import PriceInvalid
from billing.models import MarkupBasis, PriceVersion
from billing.rates import Rates, RateTable
from billing.terms import Terms, TermsBook, read_terms_book
from billing.tokens import INPUT_CLASSES, TOKEN_CLASSES
from common.clock import to_us
from common.sql import Sql
from keys.audit import Actor, author_actor, record_event

__all__ = [
    "MAX_RATE_NANOUSD",
    "PRICE_COLUMNS",
    "PROVIDER_COLUMNS",
    "RATE_COLUMNS",
    "Price",
    "PriceBook",
    "Rates",
    "complete_rates",
    "get_applied_price",
    "get_price",
    "publish_price",
    "read_price_book",
]

STANDARD_LIST = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price version, as somebody pays it: what the customer is charged, and what the platform pays."""

    version_id: int
    model: str
    effective_us: int
    table: RateTable
    provider_table: RateTable
    price_list: str = STANDARD_LIST
    # The terms whose markup is in `table`; None: the price as it is published.
    terms_id: int | None = None
    # Which answers those terms do not charge (`billing.waiving`).
    no_charge_on: str = ""

    @property
    def rates(self) -> Rates:
        """Return what a short call pays, processed as usual."""
        return self.table.base

    @property
    def provider_rates(self) -> Rates:
        """Return what the platform pays for such a call."""
        return self.provider_table.base

    def under(self, terms: Terms) -> "Price":
        """Return the price with the markup of `terms`."""
        table = self.table
        if terms.basis is MarkupBasis.COST and not self.provider_table.is_free:
            table = self.provider_table.scaled(terms.factor_basis_points)
        elif terms.basis is MarkupBasis.LIST:
            table = table.scaled(terms.factor_basis_points)
        return replace(self, table=table, terms_id=terms.id, no_charge_on=terms.no_charge_on)

    def changed(self, factor_basis_points: int) -> "Price":
        """Return an unpublished price for customers: this one times a factor in hundredths of a percent."""
        return replace(self, version_id=0, table=self.table.scaled(factor_basis_points))

    def with_cost_of(self, other: "Price") -> "Price":
        """Return the price with what the platform pays under another one."""
        return replace(self, provider_table=other.provider_table)


class PriceBook:
    """All price versions and terms, frozen; answers which count at a moment.

    Prices with markup are computed at their first use and kept: a call pays for a look-up.
    """

    def __init__(self, prices: Iterable[Price], terms: TermsBook | None = None) -> None:
        self._by_name: dict[tuple[str, str], list[Price]] = {}
        self._by_version: dict[int, Price] = {}
        self._applied: dict[tuple[int, int], Price] = {}
        self._terms = terms or TermsBook()
        for price in sorted(prices, key=lambda p: p.effective_us):
            self._by_name.setdefault((price.price_list, price.model), []).append(price)
            self._by_version[price.version_id] = price

    def find_price(
        self, model: str, at_us: int, *, customer_id: int | None = None, plan_id: int | None = None
    ) -> Price | None:
        """Return what a call pays at `at_us`, or None: such a call must not be served.

        Without a customer it is the standard price.
        """
        terms = self._terms.find_terms(customer_id=customer_id, plan_id=plan_id, at_us=at_us)
        if terms is None:
            return self.find_version(model, at_us)
        found = self.find_version(model, at_us, price_list=terms.price_list) or self.find_version(model, at_us)
        return None if found is None else self._apply(found, terms)

    def find_version(self, model: str, at_us: int, *, price_list: str = STANDARD_LIST) -> Price | None:
        """Return the newest version of a list in force at `at_us`, as published."""
        versions = self._by_name.get((price_list, model), ())
        position = bisect_right(versions, at_us, key=lambda p: p.effective_us)
        return versions[position - 1] if position else None

    def get_version(self, version_id: int) -> Price:
        """Return a version as published; KeyError means that the book is older than the version."""
        return self._by_version[version_id]

    def get_applied(self, version_id: int, terms_id: int | None) -> Price:
        """Return a version with the markup of the terms that applied; KeyError when the book is older than either."""
        price = self._by_version[version_id]
        return price if terms_id is None else self._apply(price, self._terms.get_terms(terms_id))

    def reprice(self, price: Price, terms_id: int | None) -> Price:
        """Return any price, also an unpublished one, with the markup of terms. Raises KeyError."""
        return price if terms_id is None else price.under(self._terms.get_terms(terms_id))

    def _apply(self, price: Price, terms: Terms) -> Price:
        applied = self._applied.get((price.version_id, terms.id))
        if applied is None:
            applied = self._applied[price.version_id, terms.id] = price.under(terms)
        return applied


_COLUMNS = ("id", "price_list", "model", "effective_from", "bands", *ALL_COLUMNS)


def read_price_book(sql: Sql) -> PriceBook:
    """Return the book of all price versions and terms."""
    rows = sql.rows(f"SELECT {', '.join(_COLUMNS)} FROM billing_priceversion")
    return PriceBook((_price(dict(zip(_COLUMNS, row, strict=True))) for row in rows), read_terms_book(sql))


def get_price(version_id: int) -> Price:
    """Return one price version as published."""
    return _price(dict(PriceVersion.objects.filter(pk=version_id).values().get()))


def get_applied_price(version_id: int, terms_id: int | None) -> Price:
    """Return one price version with the markup of the terms that applied to a call."""
    if terms_id is None:
        return get_price(version_id)
    return get_price(version_id).under(read_terms_book(Sql(connection)).get_terms(terms_id))


def _price(row: Mapping[str, Any]) -> Price:
    effective_from = row["effective_from"]
    assert isinstance(effective_from, datetime)
    stored = row["bands"]
    bands = json.loads(stored) if isinstance(stored, str) else stored
    return Price(
        version_id=row["id"],
        model=row["model"],
        price_list=row["price_list"],
        effective_us=to_us(effective_from),
        table=make_table(_base_rates(row, ""), bands, "rates"),
        provider_table=make_table(_base_rates(row, "provider_"), bands, "provider_rates"),
    )


def _base_rates(row: Mapping[str, Any], prefix: str) -> Rates:
    """Return the columns' rates. A version older than a class has null there: such tokens cost as ever."""
    values: dict[str, int] = {"request": row[f"{prefix}request_nanousd"]}
    for token_class in TOKEN_CLASSES:
        value = row[f"{prefix}{token_class}_nanousd"]
        kind = "input" if token_class in INPUT_CLASSES else "output"
        values[token_class] = row[f"{prefix}{kind}_nanousd"] if value is None else value
    return Rates(**values)


def draft_price(
    model: str, rates: Mapping[str, int], bands: Sequence[PriceBand] = (), *, price_list: str = ""
) -> Price:
    """Return a price that is not published, to compute with. Raises PriceInvalid like `publish_price`."""
    check_columns(rates)
    complete = complete_rates(rates)
    row = {**complete, "id": 0, "model": model, "price_list": price_list, "effective_from": datetime.now(UTC)}
    return _price({**row, "bands": store_bands(complete, bands)})


def publish_price(
    *,
    model: str,
    rates: Mapping[str, int],
    bands: Sequence[PriceBand] = (),
    author: str,
    effective_from: datetime | None = None,
    reason: str = "",
    price_list: str = STANDARD_LIST,
    actor: Actor | None = None,
) -> PriceVersion:
    """Add a price version; past versions and past usage stay as they are.

    `rates` maps columns of `PriceVersion` (`input_nanousd`, ..., `provider_...`) to nano-USD. `input_nanousd` and
    `output_nanousd` are required; other classes default to the price of what they are a kind of, so that no class is
    free by omission. `bands` are the rates of long inputs and of batches. `actor` is who the audit trail
    names (default: the author). Raises PriceInvalid for an unknown column, an absurd amount, an impossible band, or a
    second version of one moment.
    """
    check_columns(rates)
    complete = complete_rates(rates)
    now = datetime.now(UTC)
    moment = effective_from or now
    if PriceVersion.objects.filter(price_list=price_list, model=model, effective_from=moment).exists():
        raise PriceInvalid(
            f"'{model}' already has a price from {moment:%Y-%m-%d %H:%M:%S} UTC on; versions are never changed, "
            "publish one with a later moment.",
            param="effective_from",
        )
    with transaction.atomic():
        version = PriceVersion.objects.create(
            price_list=price_list,
            model=model,
            effective_from=moment,
            author=author,
            reason=reason,
            created_at=now,
            bands=store_bands(complete, bands),
            **complete,
        )
        record_event(
            actor=actor or author_actor(author),
            action="price.published",
            target=version,
            after={"price_list": price_list, "model": model, "effective_from": moment, **complete},
            reason=reason,
        )
    return version

"""What a customer used in a range of time, summed: as far as one price goes, and by model.

Records are summed by the database, apart from calls that asked the model several times: each of their attempts falls
into a band of its price by its own size, so those few are read one by one. Of archived calls only sums by the hour are
left, which know no price.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Coalesce

from billing.attempts import unpack_attempts
from billing.models import REUSED_STATES
from billing.models import UsageSource as CountedBy
from billing.pricing import PriceBook
from billing.rates import Processing, RateBand
from billing.tokens import INPUT_CLASSES, NO_TOKENS, TOKEN_CLASSES, TokenCounts
from billing.usage_sources import usage_sources

_REUSED = Q(cache__in=REUSED_STATES)
_TOKEN_COLUMNS = tuple(f"{token_class}_tokens" for token_class in TOKEN_CLASSES)


class PriceKey(NamedTuple):
    """What decides the rates of a call: its price version, the terms that applied, how it was processed, its size."""

    model: str
    version_id: int
    # 0: no terms.
    terms_id: int
    processing: Processing
    above_input_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedSums:
    """Calls (or attempts) under one set of rates."""

    key: PriceKey
    requests: int
    tokens: TokenCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSums:
    """All calls of a model: what they cost by their prices, and what the ledger moved for them.

    Answers that another call had fetched are among them, and told apart: they cost a part of their price.
    """

    model: str
    calls: int
    cost_nanousd: int
    charged_nanousd: int
    reused_calls: int = 0
    reused_nanousd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSums:
    """A range of a customer's calls, in the order of their models and prices."""

    priced: tuple[PricedSums, ...]
    models: tuple[ModelSums, ...]
    archived: tuple[ModelSums, ...]


def read_sums(customer_id: int, start: datetime, end: datetime, prices: PriceBook) -> UsageSums:
    """Return what a customer's calls that began in [start, end) used."""
    priced: tuple[PricedSums, ...] = ()
    models: dict[bool, list[ModelSums]] = {True: [], False: []}
    for source in usage_sources(start, end):
        rows = source.rows.filter(customer_id=customer_id)
        if source.has_calls:
            priced = tuple(_read_priced(rows, prices))
        wanted: dict[str, Any] = {"calls": source.calls, "cost": Sum("cost_nanousd"), "charged": Sum("charged_nanousd")}
        if source.has_calls:
            wanted |= {
                "reused_calls": Count("id", filter=_REUSED),
                "reused_cost": Coalesce(Sum("cost_nanousd", filter=_REUSED), 0),
            }
        models[source.has_calls] += [
            ModelSums(
                model=row["model"],
                calls=row["calls"],
                cost_nanousd=row["cost"],
                charged_nanousd=row["charged"],
                reused_calls=row.get("reused_calls", 0),
                reused_nanousd=row.get("reused_cost", 0),
            )
            for row in rows.values("model").annotate(**wanted).order_by("model")
        ]
    return UsageSums(priced=priced, models=tuple(models[True]), archived=tuple(models[False]))


def read_charges(customer_id: int, start: datetime, end: datetime | None = None) -> dict[str, "Charge"]:
    """Return by model what the ledger moved for a customer's calls that began in a range, archived or not."""
    found: dict[str, Charge] = {}
    for source in usage_sources(start, end):
        rows = source.rows.filter(customer_id=customer_id).values("model")
        for row in rows.annotate(calls=source.calls, charged=Sum("charged_nanousd")).order_by("model"):
            found[row["model"]] = found.get(row["model"], NO_CHARGE).plus(row["calls"], row["charged"])
    return found


class Charge(NamedTuple):
    """Some calls and what they were charged."""

    calls: int
    amount_nanousd: int

    def plus(self, calls: int, amount_nanousd: int) -> "Charge":
        """Return the sum with further calls."""
        return Charge(self.calls + calls, self.amount_nanousd + amount_nanousd)


NO_CHARGE = Charge(0, 0)


def _read_priced(rows: QuerySet[Any], prices: PriceBook) -> list[PricedSums]:
    # What produced nothing costs nothing, not even the price of a request.
    produced = rows.exclude(source=CountedBy.NONE).exclude(_REUSED)
    requests: Counter[PriceKey] = Counter()
    tokens: dict[PriceKey, TokenCounts] = {}
    for key, count, counts in (*_sum_calls(produced, prices), *_sum_attempts(produced, prices)):
        requests[key] += count
        tokens[key] = TokenCounts(*map(sum, zip(tokens.get(key, NO_TOKENS), counts, strict=True)))
    return [PricedSums(key=key, requests=requests[key], tokens=tokens[key]) for key in sorted(requests)]


def _sum_calls(rows: QuerySet[Any], prices: PriceBook) -> Iterator[tuple[PriceKey, int, TokenCounts]]:
    single = rows.filter(attempts="").annotate(
        input_total=sum((F(f"{c}_tokens") for c in INPUT_CLASSES), start=Value(0))
    )
    combinations = single.values_list("model", "price_version_id", "price_terms_id", "processing").distinct()
    band = Case(*_bands(combinations, prices), default=Value(0), output_field=IntegerField())
    names = ("model", "price_version_id", "price_terms_id", "processing", "band")
    sums = {f"sum_{column}": Sum(column) for column in _TOKEN_COLUMNS}
    for row in single.annotate(band=band).values(*names).annotate(requests=Count("id"), **sums).order_by(*names):
        model, version_id, terms_id, processing, above = (row[name] for name in names)
        key = PriceKey(model, version_id, terms_id or 0, Processing(processing), above)
        yield key, row["requests"], TokenCounts(*(row[f"sum_{column}"] for column in _TOKEN_COLUMNS))


def _bands(combinations: Iterable[tuple[str, int, int | None, str]], prices: PriceBook) -> Iterator[When]:
    """Yield which band a call is in, the highest first; none for prices that have one band."""
    for model, version_id, terms_id, processing in combinations:
        same = Q(model=model, price_version_id=version_id, price_terms_id=terms_id, processing=processing)
        if terms_id is None:
            same = Q(model=model, price_version_id=version_id, price_terms_id__isnull=True, processing=processing)
        for band in reversed(_find_bands(prices, version_id, terms_id, Processing(processing))[1:]):
            yield When(same & Q(input_total__gt=band.above_input_tokens), then=Value(band.above_input_tokens))


def _find_bands(
    prices: PriceBook, version_id: int, terms_id: int | None, processing: Processing
) -> tuple[RateBand, ...]:
    table = prices.get_applied(version_id, terms_id).table
    return table.batch if processing is Processing.BATCH and table.batch else table.standard


def _sum_attempts(rows: QuerySet[Any], prices: PriceBook) -> Iterator[tuple[PriceKey, int, TokenCounts]]:
    repeated = rows.exclude(attempts="").values_list(
        "model", "price_version_id", "price_terms_id", "processing", "attempts"
    )
    for model, version_id, terms_id, processed, packed in repeated.iterator():
        processing = Processing(processed)
        bands = _find_bands(prices, version_id, terms_id, processing)
        for attempt in unpack_attempts(packed):
            if attempt != NO_TOKENS:
                above = max(b.above_input_tokens for b in bands if b.above_input_tokens < max(1, attempt.input_total))
                yield PriceKey(model, version_id, terms_id or 0, processing, above), 1, attempt

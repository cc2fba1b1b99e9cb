"""FOCUS 1.2, the FinOps open cost and usage specification, as CSV: one row for each token class of each call.

Source: https://focus.finops.org/focus-specification/v1-2/ (2025-05). Columns that belong to what is not sold here
(commitments, regions, resources, capacity, other currencies) are left out, as it allows. `BilledCost` and
`EffectiveCost` are what the ledger moved; `ListCost` and `ContractedCost` are unit price times quantity, before the
call's one rounding. A charge period is the hour in which the call began. Names of customers and keys may change and are
not in the file.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import connection

from billing.explaining import CLASS_LABELS
from billing.exports.cells import write_json, write_plain, write_usd
from billing.exports.charges import REQUEST, ChargePart, format_exact_usd, split_charge
from billing.exports.csv_file import encode_lines, quote
from billing.exports.reading import read_batches
from billing.exports.selection import Selection
from billing.exports.tally import Tally
from billing.pricing import Rates, read_price_book
from billing.rates import Processing
from billing.tokens import TOKEN_CLASSES, TokenCounts
from common.sql import Sql

FOCUS_COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    # Always empty: nothing is sold by commitment, but the rules of consumed quantities ask for it.
    "CommitmentDiscountStatus",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    # Empty until charges are on invoices.
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingCurrency",
    "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
    "x_RequestId",
    "x_UsageId",
    "x_PriceVersion",
    "x_StartedAt",
    "x_EndUser",
)
_READ = (
    "id",
    "request_id",
    "started_at",
    "customer_id",
    "key_id",
    "key_prefix",
    "operation",
    "model",
    "price_version",
    "price_terms",
    "processing",
    "cost_nanousd",
    "charged_nanousd",
    "end_user",
    "tags",
    *(f"{token_class}_tokens" for token_class in TOKEN_CLASSES),
)
_PLATFORM = "Tollkeeper"
_HOUR = timedelta(hours=1)


def write_focus(selection: Selection, tally: Tally) -> Iterator[bytes]:
    """Yield the file in parts."""
    columns = [selection.dataset.get_column(name) for name in _READ]
    prices = _Prices()
    yield encode_lines([FOCUS_COLUMNS])
    for rows in read_batches(selection, columns):
        lines: list[list[str]] = []
        for row in rows:
            call = dict(zip(_READ, row, strict=True))
            tokens = TokenCounts(**{name: call[f"{name}_tokens"] for name in TOKEN_CLASSES})
            parts = split_charge(
                tokens=tokens,
                rates=prices.get_rates(call, tokens),
                cost_nanousd=call["cost_nanousd"],
                charged_nanousd=call["charged_nanousd"],
            )
            tally.add_rows(len(parts), sum(part.charged_nanousd for part in parts))
            shared = _describe_call(call)
            lines += [_line({**shared, **_describe_part(call, part)}) for part in parts]
        yield encode_lines(lines)


class _Prices:
    """The price versions; read again when a call names one that was published meanwhile."""

    def __init__(self) -> None:
        self._book = read_price_book(Sql(connection))

    def get_rates(self, call: dict[str, Any], tokens: TokenCounts) -> Rates:
        """Return the rates that a call was priced by: its version's band, under its terms."""
        version_id, terms_id = call["price_version"], call["price_terms"]
        try:
            price = self._book.get_applied(version_id, terms_id)
        except KeyError:
            self._book = read_price_book(Sql(connection))
            price = self._book.get_applied(version_id, terms_id)
        return price.table.rates_for(tokens.input_total, Processing(call["processing"]))


def _describe_call(call: dict[str, Any]) -> dict[str, object]:
    period_start, period_end, month_start, month_end = _periods(call["started_at"][:13])
    return {
        "BillingAccountId": call["customer_id"],
        "BillingCurrency": "USD",
        "BillingPeriodEnd": month_end,
        "BillingPeriodStart": month_start,
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": period_end,
        "ChargePeriodStart": period_start,
        "InvoiceIssuerName": _PLATFORM,
        "PricingCategory": "Standard",
        "PricingCurrency": "USD",
        "ProviderName": _PLATFORM,
        "PublisherName": _PLATFORM,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": call["operation"],
        "ServiceSubcategory": "Generative AI",
        "SkuId": write_plain(call["model"]),
        "SubAccountId": call["key_id"],
        "SubAccountName": call["key_prefix"],
        "Tags": write_json(call["tags"]),
        "x_RequestId": call["request_id"],
        "x_UsageId": call["id"],
        "x_PriceVersion": call["price_version"],
        "x_StartedAt": call["started_at"],
        "x_EndUser": write_plain(call["end_user"]),
    }


def _describe_part(call: dict[str, Any], part: ChargePart) -> dict[str, object]:
    is_request = part.meter == REQUEST
    meter = "Requests" if is_request else f"{CLASS_LABELS[part.meter]} tokens"
    unit = "Requests" if is_request else "Tokens"
    charged, listed = write_usd(part.charged_nanousd), format_exact_usd(part.list_cost)
    unit_price = format_exact_usd(part.unit_price)
    # Readers that guess types from a file take a column of whole numbers for integers; the type is decimal.
    quantity = f"{part.quantity}.0"
    return {
        "BilledCost": charged,
        "ChargeDescription": write_plain(f"{call['model']}: {meter}"),
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "ContractedCost": listed,
        "ContractedUnitPrice": unit_price,
        "EffectiveCost": charged,
        "ListCost": listed,
        "ListUnitPrice": unit_price,
        "PricingCurrencyContractedUnitPrice": unit_price,
        "PricingCurrencyEffectiveCost": charged,
        "PricingCurrencyListUnitPrice": unit_price,
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "SkuMeter": meter,
        "SkuPriceId": write_plain(f"{call['model']}/{part.meter}"),
    }


@lru_cache(64)
def _periods(hour: str) -> tuple[str, str, str, str]:
    """Return start and end of the hour and of its month; `hour` is like "2026-11-21T08"."""
    start = datetime.fromisoformat(f"{hour}:00:00")
    month = start.replace(day=1, hour=0)
    next_month = (month + timedelta(days=31)).replace(day=1)
    hour_start, hour_end, month_start, month_end = (
        f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (start, start + _HOUR, month, next_month)
    )
    return hour_start, hour_end, month_start, month_end


def _line(values: dict[str, object]) -> list[str]:
    # Empty is null: what has no value here has no key in `values`.
    return [quote(str(values.get(name, ""))) for name in FOCUS_COLUMNS]

"""Usage records in words and sums, for people who are asked "why did this cost that?"."""

from dataclasses import dataclass
from decimal import Decimal

from billing.models import UsageRecord, UsageSource, UsageStatus
from billing.pricing import Price, get_price
from billing.tokens import TOKEN_CLASSES

CLASS_LABELS = {
    "input": "Input",
    "cache_read": "Input read from the provider's cache",
    "cache_write": "Input written to the provider's cache",
    "output": "Output",
    "reasoning": "Reasoning",
    "audio_input": "Audio input",
    "audio_output": "Audio output",
}

_FLAGS = {
    "server_died": "The server process that carried this call died. It was resolved when its hold ran out, by what "
    "was known to have reached the customer.",
    "late_settlement": "The result arrived after the hold had run out. This record corrects the earlier one.",
    "usage_parts_exceed_total": "The provider's token classes add up to more than its own total; the higher figure "
    "was charged.",
    "usage_total_mismatch": "The provider's total differs from the sum of its input and output; the difference was "
    "charged as reasoning.",
    "cost_exceeds_hold": "The provider reported more than the call could cost by our count. Only what was held was "
    "charged; the platform bears the difference.",
    "usage_unreadable": "The provider sent token counts that could not be read, so they were counted here.",
}

_STATUSES = {
    UsageStatus.COMPLETED: "The call ran to its end.",
    UsageStatus.CANCELLED: "The client left or cancelled; what had been produced until then is charged.",
    UsageStatus.INTERRUPTED: "A fault ended the answer after its first byte; what had been relayed is charged.",
    UsageStatus.FAILED: "The call failed before the first byte of an answer.",
    UsageStatus.LOST: "The server died during the call; it was resolved when its hold ran out.",
}

_SOURCES = {
    UsageSource.PROVIDER: "The token counts are the provider's own.",
    UsageSource.ESTIMATED: "The provider gave no token counts; they were counted here from what was relayed.",
    UsageSource.NONE: "Nothing was produced, so there is nothing to count.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One token class: `amount_usd` is exact, before any rounding."""

    label: str
    tokens: int
    rate_nanousd: int
    amount_usd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostExplanation:
    """How a record's cost came about."""

    price: Price
    lines: tuple[CostLine, ...]
    request_nanousd: int
    # The sum of the lines and the price of the call, before the one rounding.
    exact_usd: str
    rounded_nanousd: int
    # What the record says; another figure than `rounded_nanousd` is a case for `manage.py reconcile`.
    cost_nanousd: int
    charged_nanousd: int


def explain_cost(record: UsageRecord) -> CostExplanation:
    """Return the sum that led to a record's cost, by the price version that it names."""
    price = get_price(record.price_version_id)
    lines = []
    millionths = 0
    for token_class in TOKEN_CLASSES:
        tokens: int = getattr(record, f"{token_class}_tokens")
        rate: int = getattr(price.rates, token_class)
        millionths += tokens * rate
        if tokens:
            amount = _exact_usd(tokens * rate)
            lines.append(CostLine(label=CLASS_LABELS[token_class], tokens=tokens, rate_nanousd=rate, amount_usd=amount))
    produced = record.source != UsageSource.NONE
    request_nanousd = price.rates.request if produced else 0
    return CostExplanation(
        price=price,
        lines=tuple(lines),
        request_nanousd=request_nanousd,
        exact_usd=_exact_usd(millionths + request_nanousd * 1_000_000),
        rounded_nanousd=_round_half_even(millionths) + request_nanousd,
        cost_nanousd=record.cost_nanousd,
        charged_nanousd=record.charged_nanousd,
    )


def explain_outcome(record: UsageRecord) -> list[str]:
    """Return sentences that say how the call ended, where its counts come from and what was odd."""
    sentences = [_STATUSES[UsageStatus(record.status)], _SOURCES[UsageSource(record.source)]]
    if record.charged_nanousd < record.cost_nanousd:
        sentences.append("Less than the cost was charged: a call is never charged more than was held for it.")
    sentences += [_FLAGS.get(flag, f"Flag: {flag}.") for flag in record.flags.split(",") if flag]
    return sentences


def _round_half_even(millionths_nanousd: int) -> int:
    return int((Decimal(millionths_nanousd) / 1_000_000).to_integral_value(rounding="ROUND_HALF_EVEN"))


def _exact_usd(millionths_nanousd: int) -> str:
    """Return 1e-15 USD as a plain decimal with at least two digits."""
    whole, fraction = divmod(millionths_nanousd, 10**15)
    return f"{whole}.{f'{fraction:015d}'.rstrip('0').ljust(2, '0')}"

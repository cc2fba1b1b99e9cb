"""Usage records in words and sums, for people who are asked "why did this cost that?"."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.attempts import unpack_attempts
from billing.models import REUSED_STATES, CacheState, MarkupBasis, UsageRecord, UsageSource, UsageStatus
from billing.pricing import Price, get_applied_price
from billing.rates import Processing
from billing.reuse import cost_of_reuse
from billing.tokens import TOKEN_CLASSES, TokenCounts
from billing.waiving import EMPTY_FLAG, FAILED_FLAG, is_waived
from common.percents import format_percent

CLASS_LABELS = {
    "input": "Input",
    "cache_read": "Input read from the provider's cache",
    "cache_write": "Input written to the provider's cache",
    "output": "Output",
    "reasoning": "Reasoning",
    "audio_input": "Audio input",
    "audio_output": "Audio output",
    "image_input": "Image input",
    "image_output": "Image output",
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
    "asked_again": "An answer did not fit the schema that was asked for, so the model was asked again.",
    "guard_flag": "Content rules found something and let it through; it is among the guards' decisions.",
    "guard_redact": "Content rules put placeholders in place of what they found in the input or the answer.",
    "guard_block": "A content rule ended the answer; what had been produced until then is charged.",
    FAILED_FLAG: "The answer failed, and the model or the terms of the customer or its plan do not charge for that. "
    "The provider's cost stays the platform's.",
    EMPTY_FLAG: "The answer was empty, and the model or the terms of the customer or its plan do not charge for that. "
    "The provider's cost stays the platform's.",
    "usage_unreadable": "The provider sent token counts that could not be read, so they were counted here.",
}

_STATUSES = {
    UsageStatus.COMPLETED: "The call ran to its end.",
    UsageStatus.CANCELLED: "The client left or cancelled; what had been produced until then is charged.",
    UsageStatus.INTERRUPTED: "A fault ended the answer after its first byte; what had been relayed is charged.",
    UsageStatus.FAILED: "The call failed before the first byte of an answer.",
    UsageStatus.LOST: "The server died during the call; it was resolved when its hold ran out.",
}

_CACHE_STATES = {
    CacheState.HIT: "The answer came from the response cache.",
    CacheState.COALESCED: "The same call was running already, and its answer was shared.",
    CacheState.MISS: "The response cache had no answer, so the model was asked.",
    CacheState.BYPASS: "The caller wanted no earlier answer, so the model was asked.",
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
class AttemptCost:
    """One call to the provider: the sum of its lines and the price of a call, rounded once."""

    lines: tuple[CostLine, ...]
    request_nanousd: int
    # Before the rounding.
    exact_usd: str
    rounded_nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostExplanation:
    """How a record's cost came about."""

    price: Price
    # What made the rates differ from the version's first column: markup, size of input, batch. A sentence each.
    reasons: tuple[str, ...]
    # One, or each time that the model was asked.
    attempts: tuple[AttemptCost, ...]
    rounded_nanousd: int
    # What the record says; another figure than `rounded_nanousd` is a case for `manage.py reconcile`.
    cost_nanousd: int
    charged_nanousd: int


def explain_cost(record: UsageRecord) -> CostExplanation:
    """Return the sum that led to a record's cost, by the price version and the terms that it names."""
    price = get_applied_price(record.price_version_id, record.price_terms_id)
    total = TokenCounts(**{name: getattr(record, f"{name}_tokens") for name in TOKEN_CLASSES})
    processing = Processing(record.processing)
    used = unpack_attempts(record.attempts) or (total,)
    is_produced = record.source != UsageSource.NONE
    attempts = tuple(
        _explain_attempt(price, tokens, processing, is_produced=is_produced and (len(used) == 1 or any(tokens)))
        for tokens in used
    )
    rounded_nanousd = sum(attempt.rounded_nanousd for attempt in attempts)
    if record.cache in REUSED_STATES:
        rounded_nanousd = cost_of_reuse(price.table, total, processing, percent=record.reused_percent)
    return CostExplanation(
        price=price,
        reasons=tuple(_reasons(record, price, used, processing)),
        attempts=attempts,
        rounded_nanousd=rounded_nanousd,
        cost_nanousd=record.cost_nanousd,
        charged_nanousd=record.charged_nanousd,
    )


def _explain_attempt(price: Price, tokens: TokenCounts, processing: Processing, *, is_produced: bool) -> AttemptCost:
    rates = price.table.rates_for(tokens.input_total, processing)
    lines = []
    millionths = 0
    for token_class, count in zip(TOKEN_CLASSES, tokens, strict=True):
        rate: int = getattr(rates, token_class)
        millionths += count * rate
        if count:
            amount = _exact_usd(count * rate)
            lines.append(CostLine(label=CLASS_LABELS[token_class], tokens=count, rate_nanousd=rate, amount_usd=amount))
    request_nanousd = rates.request if is_produced else 0
    return AttemptCost(
        lines=tuple(lines),
        request_nanousd=request_nanousd,
        exact_usd=_exact_usd(millionths + request_nanousd * 1_000_000),
        rounded_nanousd=_round_half_even(millionths) + request_nanousd,
    )


def _reasons(
    record: UsageRecord, price: Price, attempts: Sequence[TokenCounts], processing: Processing
) -> Iterator[str]:
    terms = record.price_terms
    if terms is not None:
        owner = "customer" if terms.customer_id is not None else "plan"
        basis = "the provider's price" if terms.basis == MarkupBasis.COST else "the list price"
        markup = f"{format_percent(terms.markup_basis_points, with_sign=True)} on {basis}"
        yield f"Rates include the {owner}'s terms {terms.pk}: {markup}."
    if price.price_list:
        yield f"From the price list '{price.price_list}'."
    if price.table.batch and processing is Processing.BATCH:
        yield "The provider processed it at its batch price (flex), so the batch rates apply."
    if record.cache in REUSED_STATES:
        yield (
            f"Another call had fetched the answer, so {record.reused_percent} % of the sum is charged; the provider "
            "was not asked."
        )
    if len(attempts) > 1:
        yield f"The model was asked {len(attempts)} times; each time is priced by its own size and rounded for itself."
    bands = price.table.batch if price.table.batch and processing is Processing.BATCH else price.table.standard
    for number, tokens in enumerate(attempts, start=1):
        whose = "Its input" if len(attempts) == 1 else f"The input of attempt {number}"
        passed = [band.above_input_tokens for band in bands[1:] if tokens.input_total > band.above_input_tokens]
        if passed:
            yield (
                f"{whose} of {tokens.input_total:,} tokens is above {passed[-1]:,}, so the rates of long inputs apply."
            )


def explain_outcome(record: UsageRecord) -> list[str]:
    """Return sentences that say how the call ended, where its counts come from and what was odd."""
    sentences = [_STATUSES[UsageStatus(record.status)], _SOURCES[UsageSource(record.source)]]
    if record.cache:
        sentences.append(_CACHE_STATES[CacheState(record.cache)])
    if record.charged_nanousd < record.cost_nanousd and not is_waived(record.flags):
        sentences.append("Less than the cost was charged: a call is never charged more than was held for it.")
    sentences += [_FLAGS.get(flag, f"Flag: {flag}.") for flag in record.flags.split(",") if flag]
    return sentences


def _round_half_even(millionths_nanousd: int) -> int:
    return int((Decimal(millionths_nanousd) / 1_000_000).to_integral_value(rounding="ROUND_HALF_EVEN"))


def _exact_usd(millionths_nanousd: int) -> str:
    """Return 1e-15 USD as a plain decimal with at least two digits."""
    whole, fraction = divmod(millionths_nanousd, 10**15)
    return f"{whole}.{f'{fraction:015d}'.rstrip('0').ljust(2, '0')}"

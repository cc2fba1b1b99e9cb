"""What can go wrong with money."""

from common.errors import Conflict, InvalidRequest, PaymentRequired
from common.money import format_usd


class InsufficientBalance(PaymentRequired):
    code = "insufficient_balance"
    summary = "The available balance does not cover the call's most expensive outcome."

    def __init__(self, *, needed_nanousd: int, available_nanousd: int, held_nanousd: int) -> None:
        held = f" ({format_usd(held_nanousd)} more is held by calls in flight)" if held_nanousd else ""
        super().__init__(
            f"The call may cost up to {format_usd(needed_nanousd)} USD, and {format_usd(available_nanousd)} USD is "
            f"available{held}. Add credit, or lower max_completion_tokens.",
            details={
                "needed_usd": format_usd(needed_nanousd),
                "available_usd": format_usd(available_nanousd),
                "held_usd": format_usd(held_nanousd),
            },
        )


class PriceMissing(PaymentRequired):
    code = "price_missing"
    summary = "The model has no price in force, so the call is refused rather than served for nothing."

    def __init__(self, *, model: str) -> None:
        super().__init__(
            f"The model '{model}' has no price in force, so it cannot be called. Ask your administrator for one.",
            param="model",
        )


class PriceInvalid(InvalidRequest):
    code = "invalid_price"
    summary = "The price version cannot be published."


class AmountInvalid(InvalidRequest):
    code = "invalid_amount"
    summary = "The amount or its reason is missing or out of range."


class ReferenceUsed(Conflict):
    code = "reference_used"
    summary = "A movement of money with this reference exists, with other content."

    def __init__(self, *, reference: str) -> None:
        super().__init__(f"The reference '{reference}' names another movement of money; nothing was booked.")


class ExportInvalid(InvalidRequest):
    code = "invalid_export"
    summary = "The export's kind, format or range is not valid."

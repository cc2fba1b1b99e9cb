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
        super().__init__(
            f"The reference '{reference}' names another movement of money; nothing was booked. "
            "Choose another reference for a new one."
        )


class SpendInvalid(InvalidRequest):
    code = "invalid_spend_query"
    summary = "Spend cannot be grouped like that, or the answer would have too many rows."


class RerateTooLarge(InvalidRequest):
    code = "rerate_too_large"
    summary = "The range has too many calls to be priced anew while a page waits."

    def __init__(self, *, most_calls: int) -> None:
        super().__init__(
            f"The range has more than {most_calls} calls. Ask for fewer days, or run 'manage.py prices rerate'.",
            param="days",
        )


class RetentionInvalid(InvalidRequest):
    code = "invalid_retention"
    summary = "Old usage cannot be archived as it was asked for; nothing was deleted."


class ProviderFileInvalid(InvalidRequest):
    code = "invalid_provider_file"
    summary = "The file is no usage of a provider that can be compared."


class ExportInvalid(InvalidRequest):
    code = "invalid_export"
    summary = "The export's kind, format or range is not valid."


class ExportDestinationInvalid(InvalidRequest):
    code = "invalid_export_destination"
    summary = "The place that an export shall be written to is not valid or cannot be reached."


class ApprovalRefused(Conflict):
    code = "approval_refused"
    summary = "A movement of money cannot be approved by the person who ordered it."

    def __init__(self) -> None:
        super().__init__("You ordered this yourself: ask a second person to approve it.")


class MovementDecided(Conflict):
    code = "movement_decided"
    summary = "The movement of money no longer waits for a decision."

    def __init__(self, *, status: str) -> None:
        super().__init__(f"This movement was decided meanwhile ({status}). Look at it again.")


class PeriodInvalid(InvalidRequest):
    code = "invalid_period"
    summary = "The month is not written like 2026-10, its time zone is unknown, or it is not over yet."


class InvoiceRefused(Conflict):
    code = "invoice_refused"
    summary = "The invoice is in a state that does not allow what was asked for."


class InvoiceOutdated(Conflict):
    code = "invoice_outdated"
    summary = "Since the draft was computed, other invoices of the customer or its billing profile have changed."

    def __init__(self, *, month: str) -> None:
        super().__init__(
            f"Since this draft of {month} was computed, another invoice or the billing profile of the customer has "
            f"changed. Close {month} again, look at the new draft, and issue that."
        )

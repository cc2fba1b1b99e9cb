"""Customers' calls of versions, as panels: one on its own page, two where they are compared."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from common.admin_display import money, number
from common.admin_pages import Panel
from prompts.models import PromptVersion
from prompts.ports import CallNumbers, read_call_numbers

SHOWN_DAYS = 30


def read_numbers(versions: Sequence[PromptVersion], days: int) -> Sequence[CallNumbers]:
    """Return the figures of calls in the last `days` of versions of one prompt, in the order given."""
    since = datetime.now(UTC) - timedelta(days=days)
    name = versions[0].prompt.name if versions else ""
    return read_call_numbers(name, [str(version.number) for version in versions], since)


def calls_panel(versions: Sequence[PromptVersion], *, days: int = SHOWN_DAYS) -> Panel:
    """Return what the versions (of one prompt) did for customers lately."""
    return numbers_panel(read_numbers(versions, days), days=days)


def numbers_panel(numbers: Sequence[CallNumbers], *, days: int) -> Panel:
    """Return figures of calls as a table."""
    return Panel(
        title=f"Calls of customers, last {days_text(days)}",
        headers=(
            "Version",
            "Calls",
            "Errors",
            "Tokens in / out",
            "Charged (USD)",
            "USD a call",
            "p50 (ms)",
            "p95 (ms)",
        ),
        rows=[
            (
                found.version,
                number(found.calls),
                f"{found.errors:,} ({100 * found.errors / found.calls:.1f} %)",
                f"{found.input_tokens:,} / {found.output_tokens:,}",
                money(found.charged_nanousd),
                money(found.charged_nanousd // found.calls),
                number(found.p50_ms),
                number(found.p95_ms),
            )
            for found in numbers
            if found.calls
        ],
        empty="No customer has called it.",
    )


def days_text(days: int) -> str:
    """Return "24 hours" or "30 days"."""
    return "24 hours" if days == 1 else f"{days} days"

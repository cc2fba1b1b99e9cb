"""Answers that nobody pays for: failed or empty ones, where a model or somebody's terms say so.

The cost stays on the usage record, and what the provider asks for it stays the platform's; a flag says why nothing was
charged. The flag is what settlement reads and what `reconcile` holds the charge to.
"""

from django.db import models

FAILED_FLAG = "no_charge_failed"
EMPTY_FLAG = "no_charge_empty"
_PREFIX = "no_charge_"


class NoCharge(models.TextChoices):
    """Which answers are not charged; the empty value is false, for the request path."""

    NEVER = "", "None: every answer is charged"
    FAILED = "failed", "Failed answers"
    EMPTY = "empty", "Empty answers"
    BOTH = "both", "Failed and empty answers"


def find_waiver(*rules: str, has_failed: bool, is_empty: bool) -> str:
    """Return the flag of an answer that one of the rules (values of `NoCharge`) makes free, or ""."""
    if has_failed and any(rule in (NoCharge.FAILED, NoCharge.BOTH) for rule in rules):
        return FAILED_FLAG
    if is_empty and any(rule in (NoCharge.EMPTY, NoCharge.BOTH) for rule in rules):
        return EMPTY_FLAG
    return ""


def is_waived(flags: str) -> bool:
    """Return whether a record's flags say that nothing is charged for it."""
    return _PREFIX in flags

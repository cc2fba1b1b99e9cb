"""Proving the books: every balance, charge, cost and limit counter recomputed from the rows that led to it.

`reconcile()` reads one snapshot of the database while calls go on, and changes nothing.
"""

from billing.reconciliation.report import CheckResult, Difference, Report
from billing.reconciliation.running import reconcile

__all__ = ["CheckResult", "Difference", "Report", "reconcile"]

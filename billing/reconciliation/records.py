"""The results of reconciliations are kept: what was compared when, and every difference as it was listed."""

from datetime import UTC, datetime

from billing.finance_models import ReconciliationKind, ReconciliationRun
from billing.reconciliation.report import Report


def record_reconciliation(report: Report, *, duration_ms: int, source: str = "", sha256: str = "") -> ReconciliationRun:
    """Append the result; `source` names a provider's file where it was one that was compared with."""
    return ReconciliationRun.objects.create(
        kind=ReconciliationKind.PROVIDER if source else ReconciliationKind.BOOKS,
        created_at=datetime.now(UTC),
        duration_ms=duration_ms,
        is_clean=report.is_clean,
        difference_count=report.difference_count,
        source=source[:200],
        sha256=sha256,
        report=report.as_json(),
    )


def find_last_run(kind: ReconciliationKind) -> ReconciliationRun | None:
    """Return the newest result of a kind."""
    return ReconciliationRun.objects.filter(kind=kind).order_by("-created_at", "-id").first()

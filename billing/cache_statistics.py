"""What the response cache did, by model: read along the index of calls that it had a part in."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q, Sum

from billing.models import REUSED_STATES, CacheState, UsageRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFigures:
    """Calls of one model that could have been answered from the cache; money in nano-USD."""

    model: str
    hits: int = 0
    coalesced: int = 0
    misses: int = 0
    bypassed: int = 0
    # Of answers that no provider had to give once more: their bodies, what it would have charged, what they cost.
    reused_bytes: int = 0
    saved_nanousd: int = 0
    charged_nanousd: int = 0

    @property
    def hit_percent(self) -> int | None:
        """Return which part of those that would have taken an earlier answer got one; None: there were none."""
        reused = self.hits + self.coalesced
        asked = reused + self.misses
        return 100 * reused // asked if asked else None


def read_cache_figures(*, since: datetime) -> list[CacheFigures]:
    """Return the figures of every model with such calls since a moment, the most asked first."""
    rows = (
        UsageRecord.objects.exclude(cache="")
        .filter(started_at__gte=since)
        .values("model")
        .annotate(
            calls=Count("id"),
            hits=_count(CacheState.HIT),
            coalesced=_count(CacheState.COALESCED),
            misses=_count(CacheState.MISS),
            bypassed=_count(CacheState.BYPASS),
            bytes=Sum("reused_bytes"),
            saved=Sum("saved_nanousd"),
            charged=Sum("charged_nanousd", filter=Q(cache__in=REUSED_STATES)),
        )
        .order_by("-calls", "model")
    )
    return [
        CacheFigures(
            model=row["model"],
            hits=row["hits"],
            coalesced=row["coalesced"],
            misses=row["misses"],
            bypassed=row["bypassed"],
            reused_bytes=int(row["bytes"]),
            saved_nanousd=int(row["saved"]),
            charged_nanousd=int(row["charged"] or 0),
        )
        for row in rows
    ]


def _count(state: CacheState) -> Count:
    return Count("id", filter=Q(cache=state))

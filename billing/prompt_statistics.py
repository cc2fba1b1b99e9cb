"""Figures of the calls that versions of prompts answered, from usage records; one partial index serves them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, Sum
from django.db.models.expressions import Combinable

from billing.models import UsageRecord
from billing.tokens import INPUT_CLASSES, OUTPUT_CLASSES
from billing.usage_sources import UsageSource, usage_sources

# Percentiles are of the latest calls: exact ones of millions would have to sort them.
_LATENCIES = 5_000
_INPUTS = tuple(f"{name}_tokens" for name in INPUT_CLASSES)
_OUTPUTS = tuple(f"{name}_tokens" for name in OUTPUT_CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFigures:
    """Calls of one version. Errors are calls that did not end in an answer, those that their client left aside."""

    version: str
    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    charged_nanousd: int
    p50_ms: int
    p95_ms: int


def read_version_figures(prompt: str, versions: Sequence[str], since: datetime) -> list[VersionFigures]:
    """Return the figures of each version since a moment, in the order given; also of versions without a call."""
    chosen = UsageRecord.objects.filter(prompt=prompt, started_at__gte=since)
    found: dict[str, Counter[str]] = {}
    for source in usage_sources(since):
        for row in _sum_versions(source, prompt, versions):
            name = row.pop("prompt_version")
            found.setdefault(name, Counter()).update({column: int(value or 0) for column, value in row.items()})
    figures = []
    for version in versions:
        sums: Mapping[str, int] = found.get(version, {})
        latest = chosen.filter(prompt_version=version, error_code="").order_by("-started_at", "-id")
        latencies = sorted(latest.values_list("total_ms", flat=True)[:_LATENCIES]) if sums else []
        figures.append(
            VersionFigures(
                version=version,
                calls=sums.get("call_count", 0),
                errors=sums.get("error_count", 0),
                input_tokens=int(sums.get("received") or 0),
                output_tokens=int(sums.get("produced") or 0),
                charged_nanousd=int(sums.get("charged") or 0),
                p50_ms=_percentile(latencies, 50),
                p95_ms=_percentile(latencies, 95),
            )
        )
    return figures


def _sum_versions(source: UsageSource, prompt: str, versions: Sequence[str]) -> list[dict[str, Any]]:
    return list(
        source.rows.filter(prompt=prompt, prompt_version__in=versions)
        .values("prompt_version")
        .annotate(
            call_count=source.calls,
            error_count=source.errors,
            received=Sum(_sum_of(_INPUTS)),
            produced=Sum(_sum_of(_OUTPUTS)),
            charged=Sum("charged_nanousd"),
        )
        .order_by("prompt_version")
    )


def _sum_of(columns: Sequence[str]) -> Combinable:
    total: Any = F(columns[0])
    for column in columns[1:]:
        total += F(column)
    return total  # type: ignore[no-any-return]


def _percentile(ordered: Sequence[int], percent: int) -> int:
    """Return the nearest-rank percentile of values in order, 0 of none."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0

"""What test runs say of versions, side by side. Figures of customers' calls come from usage records, above this app."""

from collections.abc import Sequence
from dataclasses import dataclass

from prompts.models import PromptTestResult


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNumbers:
    """All stored test runs of one version with one model; latencies in milliseconds, None without a run."""

    model: str
    runs: int
    failed: int
    tokens: int
    cost_nanousd: int
    p50_ms: int
    p95_ms: int


def read_run_numbers(version_id: int) -> tuple[RunNumbers, ...]:
    """Return the numbers of a version by model, in one query; empty when nothing was run."""
    columns = ("model", "is_passed", "input_tokens", "output_tokens", "cost_nanousd", "latency_ms")
    by_model: dict[str, list[tuple[bool, int, int, int]]] = {}
    rows = PromptTestResult.objects.filter(version_id=version_id).order_by("model", "id").values_list(*columns)
    for model, is_passed, sent, received, cost, latency in rows:
        by_model.setdefault(model, []).append((is_passed, sent + received, cost, latency))
    return tuple(_numbers(model, runs) for model, runs in by_model.items())


def _numbers(model: str, runs: Sequence[tuple[bool, int, int, int]]) -> RunNumbers:
    latencies = sorted(latency for *_, latency in runs)
    return RunNumbers(
        model=model,
        runs=len(runs),
        failed=sum(not is_passed for is_passed, *_ in runs),
        tokens=sum(tokens for _, tokens, _, _ in runs),
        cost_nanousd=sum(cost for _, _, cost, _ in runs),
        p50_ms=_percentile(latencies, 50),
        p95_ms=_percentile(latencies, 95),
    )


def _percentile(ordered: Sequence[int], percent: int) -> int:
    """Return the nearest-rank percentile of values in order."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

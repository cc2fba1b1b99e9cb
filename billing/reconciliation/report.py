"""What a reconciliation found, as frozen values."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice

Value = int | str

# Named differences of one check: enough to see a pattern, and no more than a person reads.
MAX_LISTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure or relation that does not hold."""

    # The row, as `table id` or as its natural name.
    row: str
    what: str
    expected: Value
    found: Value

    def __str__(self) -> str:
        return f"{self.row}: {self.what} is {self.found}, expected {self.expected}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check over all rows that it concerns."""

    name: str
    claim: str
    examined: int
    differences: tuple[Difference, ...]
    # There are more differences than are listed.
    is_truncated: bool = False

    @property
    def is_clean(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks, of one moment."""

    as_of: datetime
    checks: tuple[CheckResult, ...]

    @property
    def is_clean(self) -> bool:
        return all(check.is_clean for check in self.checks)

    @property
    def difference_count(self) -> int:
        """Return how many differences are listed."""
        return sum(len(check.differences) for check in self.checks)

    def as_json(self) -> dict[str, object]:
        """Return plain values for programs."""
        return {
            "as_of": self.as_of.isoformat().replace("+00:00", "Z"),
            "is_clean": self.is_clean,
            "checks": [{**asdict(check), "is_clean": check.is_clean} for check in self.checks],
        }

    def as_text(self) -> str:
        """Return lines for people."""
        lines = [f"Reconciled as of {self.as_of:%Y-%m-%d %H:%M:%S} UTC."]
        for check in self.checks:
            verdict = "ok  " if check.is_clean else "FAIL"
            lines.append(f"{verdict}  {check.name}: {check.claim} ({check.examined:,} examined)")
            lines += [f"        {difference}" for difference in check.differences]
            if check.is_truncated:
                lines.append(f"        ... and more than these {MAX_LISTED:,}")
        more = "more than " if any(check.is_truncated for check in self.checks) else ""
        count = self.difference_count
        lines.append(
            "No difference." if self.is_clean else f"{more}{count} difference{'s' * (count != 1)}.".capitalize()
        )
        return "\n".join(lines)


def conclude(name: str, claim: str, *, examined: int, differences: Iterable[Difference]) -> CheckResult:
    """Return the result of a check, with at most MAX_LISTED of its differences."""
    listed = tuple(islice(differences, MAX_LISTED + 1))
    return CheckResult(
        name=name,
        claim=claim,
        examined=examined,
        differences=listed[:MAX_LISTED],
        is_truncated=len(listed) > MAX_LISTED,
    )

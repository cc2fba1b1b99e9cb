"""Usage as we recorded it against a provider's own file: per UTC day and model, every difference with what explains it.

What was used by an attempt that we gave up on (a retry, a fallback) is in the provider's file and in no record of ours;
what we estimated, because a provider did not say, is in ours only roughly. Both are told apart from what nobody can
explain.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import TruncDate

from billing.finance_models import UsageArchive
from billing.models import REUSED_STATES, UsageRecord, UsageSource
from billing.reconciliation.provider_files import ProviderFile, ProviderUsage
from billing.reconciliation.report import CheckResult, Difference, Report, conclude
from billing.tokens import INPUT_CLASSES, OUTPUT_CLASSES
from common.wording import counted

_NOTHING = ProviderUsage(calls=0, input_tokens=0, output_tokens=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ours:
    """What our records say of one day and upstream model."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    # Of the calls: those whose tokens we counted ourselves.
    estimated_calls: int = 0
    estimated_tokens: int = 0


def compare_with_provider(file: ProviderFile, *, upstream: str = "") -> Report:
    """Return the comparison over the days of the file; of one upstream by its name, or of all."""
    first, last = file.days
    ours = _read_ours(first, last, upstream)
    differences: list[Difference] = []
    names = sorted({*ours, *file.usage})
    for day, model in names:
        theirs = file.usage.get((day, model))
        differences += _compare(day, model, ours.get((day, model)), theirs)
    return Report(
        as_of=datetime.now(UTC),
        checks=(
            conclude(
                "provider's file",
                f"{file.name} and our records agree per day and model, {first} to {last}",
                examined=len(names),
                differences=differences,
            ),
            _check_archives(first, last),
        ),
    )


def _read_ours(first: date, last: date, upstream: str) -> dict[tuple[date, str], _Ours]:
    start = datetime.combine(first, time(), tzinfo=UTC)
    records = UsageRecord.objects.filter(
        started_at__gte=start, started_at__lt=datetime.combine(last, time(), tzinfo=UTC) + timedelta(days=1)
    ).exclude(source=UsageSource.NONE)
    # The provider has never heard of these.
    records = records.exclude(cache__in=REUSED_STATES)
    if upstream:
        records = records.filter(upstream=upstream)
    estimated = Q(source=UsageSource.ESTIMATED)
    received, produced = _sum_of(INPUT_CLASSES), _sum_of(OUTPUT_CLASSES)
    rows = (
        records.annotate(day=TruncDate("started_at", tzinfo=UTC))
        .values("day", "upstream_model")
        .annotate(
            calls=Count("id"),
            received=Sum(received),
            produced=Sum(produced),
            guessed=Count("id", filter=estimated),
            guessed_tokens=Sum(received + produced, filter=estimated),
        )
        .order_by("day", "upstream_model")
    )
    return {
        (row["day"], row["upstream_model"]): _Ours(
            calls=row["calls"],
            input_tokens=int(row["received"]),
            output_tokens=int(row["produced"]),
            estimated_calls=row["guessed"],
            estimated_tokens=int(row["guessed_tokens"] or 0),
        )
        for row in rows
    }


def _sum_of(token_classes: tuple[str, ...]) -> Any:
    total: Any = F(f"{token_classes[0]}_tokens")
    for token_class in token_classes[1:]:
        total += F(f"{token_class}_tokens")
    return total


def _compare(day: date, model: str, ours: _Ours | None, theirs: ProviderUsage | None) -> Iterator[Difference]:
    name = f"{day} {model}"
    if ours is None:
        used = theirs or _NOTHING
        yield Difference(
            row=name,
            what="our records (missing: other users of the same account, or attempts that we gave up on)",
            expected=_tokens(used),
            found="none",
        )
        return
    if theirs is None:
        yield Difference(
            row=name,
            what="our records (extra: the provider's file has no such line; another account, or another model's name)",
            expected="none",
            found=f"{counted(ours.calls, 'call')}, {_tokens(ours)}",
        )
        return
    for what, expected, found in (
        ("calls", theirs.calls, ours.calls),
        ("input tokens", theirs.input_tokens, ours.input_tokens),
        ("output tokens", theirs.output_tokens, ours.output_tokens),
    ):
        if expected is not None and expected != found:
            yield Difference(
                row=name, what=f"{what} ({_explain(what, expected, found, ours)})", expected=expected, found=found
            )


def _tokens(used: _Ours | ProviderUsage) -> str:
    return f"{counted(used.input_tokens, 'token')} in, {used.output_tokens:,} out"


def _explain(what: str, expected: int, found: int, ours: _Ours) -> str:
    if what == "calls":
        return "attempts that we gave up on, or other users" if expected > found else "calls that the provider drops"
    if ours.estimated_calls and abs(expected - found) <= ours.estimated_tokens:
        verb = "has" if ours.estimated_calls == 1 else "have"
        tokens = f"{ours.estimated_tokens:,} in all"
        return f"{counted(ours.estimated_calls, 'call')} {verb} tokens that we estimated, {tokens}"
    return "attempts that we gave up on, or other users" if expected > found else "unexplained: we recorded more"


def _check_archives(first: date, last: date) -> CheckResult:
    days = UsageArchive.objects.filter(day__gte=first, day__lte=last).order_by("day").values_list("day", flat=True)
    return conclude(
        "records",
        "the records of these days are in the database",
        examined=(last - first).days + 1,
        differences=[
            Difference(row=str(day), what="its records", expected="in the database", found="archived")
            for day in days.distinct()
        ],
    )

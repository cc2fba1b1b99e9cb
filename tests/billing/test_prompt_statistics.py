from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from billing.models import UsageRecord, UsageStatus
from billing.prompt_statistics import VersionFigures, read_version_figures
from tests.factories import funded_call

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WEEK_AGO = NOW - timedelta(days=7)


@pytest.fixture
def record() -> Callable[..., UsageRecord]:
    """Return a function that writes a usage record of the prompt `mail`."""
    call, numbers = funded_call(), count(1)

    def write(**columns: Any) -> UsageRecord:
        return UsageRecord.objects.create(
            **{
                "request_id": f"req_{next(numbers)}",
                "customer_id": call.customer_id,
                "api_key_id": call.principal.key_id,
                "operation": "prompts.runs",
                "model": call.model,
                "price_version_id": call.price.version_id,
                "status": UsageStatus.COMPLETED,
                "source": "provider",
                "is_stream": False,
                "started_at": NOW,
                "settled_at": NOW,
                "prompt": "mail",
                "prompt_version": "1.0.0",
                **columns,
            }
        )

    return write


def test_tokens_money_and_errors_are_summed_by_version(record: Callable[..., UsageRecord]) -> None:
    record(input_tokens=5, cache_read_tokens=2, output_tokens=3, reasoning_tokens=4, cost_nanousd=9, charged_nanousd=8)
    record(input_tokens=1, output_tokens=1, status=UsageStatus.FAILED, error_code="output_invalid", charged_nanousd=0)
    record(status=UsageStatus.CANCELLED, error_code="call_cancelled")
    record(prompt_version="1.1.0", output_tokens=7)
    first, second, unused = read_version_figures("mail", ["1.0.0", "1.1.0", "2.0.0"], WEEK_AGO)
    assert (first.calls, first.errors, first.input_tokens, first.output_tokens, first.charged_nanousd) == (
        3,
        1,
        8,
        8,
        8,
    )
    assert (second.version, second.calls, second.output_tokens) == ("1.1.0", 1, 7)
    assert unused == VersionFigures(
        version="2.0.0",
        calls=0,
        errors=0,
        input_tokens=0,
        output_tokens=0,
        charged_nanousd=0,
        p50_ms=0,
        p95_ms=0,
    )


def test_percentiles_are_of_calls_that_were_answered(record: Callable[..., UsageRecord]) -> None:
    for milliseconds in range(1, 101):
        record(total_ms=milliseconds)
    record(total_ms=9_000, error_code="upstream_timeout", status=UsageStatus.FAILED)
    (figures,) = read_version_figures("mail", ["1.0.0"], WEEK_AGO)
    assert (figures.p50_ms, figures.p95_ms) == (50, 95)


def test_other_prompts_and_older_calls_do_not_count(record: Callable[..., UsageRecord]) -> None:
    record(prompt="other")
    record(prompt="", prompt_version="")
    record(started_at=WEEK_AGO - timedelta(seconds=1))
    assert read_version_figures("mail", ["1.0.0"], WEEK_AGO)[0].calls == 0

"""A provider's usage file against our records: every shape is read, every difference is named and explained."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from billing.errors import ProviderFileInvalid
from billing.finance_models import ReconciliationRun
from billing.models import UsageRecord
from billing.reconciliation.provider_checks import compare_with_provider
from billing.reconciliation.provider_files import ProviderUsage, read_provider_file
from billing.tokens import TokenCounts
from tests.exporting import settle_one
from tests.factories import FundedCall, funded_call

DAY = date(2026, 11, 20)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)

OPENAI = """start_time,end_time,num_model_requests,model,input_tokens,output_tokens,input_cached_tokens
1795132800,1795219200,2,gpt-4o-mini-2024-07-18,100,20,40
1795132800,1795219200,1,gpt-4o-mini-2024-07-18,5,1,0
"""
OPENAI_OLD = """timestamp,n_requests,model,n_context_tokens_total,n_generated_tokens_total
2026-11-20T08:00:00+00:00,3,gpt-4o-mini-2024-07-18,105,21
"""
ANTHROPIC = """usage_date_utc,model_version,api_key,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,\
usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens
2026-11-20,gpt-4o-mini-2024-07-18,k1,60,0,0,40,20
2026-11-20,gpt-4o-mini-2024-07-18,k2,3,1,1,0,1
"""
ANTHROPIC_API = """date,model,uncached_input_tokens,cache_read_input_tokens,\
cache_creation.ephemeral_5m_input_tokens,output_tokens
2026-11-20T00:00:00Z,gpt-4o-mini-2024-07-18,60,40,5,21.0
"""


def read(folder: Path, text: str) -> Any:
    path = folder / "usage.csv"
    path.write_text(text, encoding="utf-8-sig")
    return read_provider_file(path)


@pytest.mark.parametrize(("text", "calls"), [(OPENAI, 3), (OPENAI_OLD, 3), (ANTHROPIC, None), (ANTHROPIC_API, None)])
def test_every_shape_says_the_same(tmp_path: Path, text: str, calls: int | None) -> None:
    found = read(tmp_path, text).usage
    assert found == {(DAY, "gpt-4o-mini-2024-07-18"): ProviderUsage(calls=calls, input_tokens=105, output_tokens=21)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model,input_tokens,output_tokens\n", "a day"),
        ("date,model,output_tokens\n", "input tokens"),
        ("date,model,input_tokens,output_tokens\n", "no line"),
        ("date,model,input_tokens,output_tokens\n20.11.,m,1,2\n", "Line 2: '20.11.' is no day"),
        ("date,model,input_tokens,output_tokens\n2026-11-20,m,1.5,2\n", "Line 2: '1.5' in column input_tokens"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ProviderFileInvalid, match=says):
        read(tmp_path, text)


def make_calls() -> FundedCall:
    """Leave two calls of 105 tokens in and 21 out together, and one that produced nothing."""
    call = funded_call()
    settle_one(call, at=AT, tokens=TokenCounts(input=60, cache_read=40, output=20), cost_nanousd=180_000)
    settle_one(call, at=AT, tokens=TokenCounts(input=5, reasoning=1), cost_nanousd=9_000)
    settle_one(call, at=AT, tokens=TokenCounts(), cost_nanousd=0, source="none", status="failed")
    return call


def line(call: FundedCall, *, calls: int = 2, received: int = 105, produced: int = 21, day: date = DAY) -> str:
    return f"{day},{call.model},{calls},{received},{produced}\n"


HEAD = "date,model,num_model_requests,input_tokens,output_tokens\n"


@pytest.mark.django_db
def test_records_that_agree_have_no_difference(tmp_path: Path) -> None:
    call = make_calls()
    assert compare_with_provider(read(tmp_path, HEAD + line(call))).is_clean


@pytest.mark.django_db
def test_each_difference_is_named_and_explained(tmp_path: Path) -> None:
    call = make_calls()
    settle_one(call, at=AT + timedelta(days=1), source="estimated", tokens=TokenCounts(input=7, output=3))
    settle_one(call, at=AT + timedelta(days=2))
    text = (
        HEAD
        + line(call, calls=3, received=205)
        + line(call, day=DAY + timedelta(days=1), calls=1, received=7, produced=5)
        + f"{DAY + timedelta(days=2)},another,1,8,9\n"
    )
    report = compare_with_provider(read(tmp_path, text))
    found = [str(difference) for difference in report.checks[0].differences]
    assert [entry.partition(" ")[0] for entry in found] == [
        *("2026-11-20", "2026-11-20", "2026-11-21", "2026-11-22", "2026-11-22")
    ]
    assert "attempts that we gave up on" in found[0]
    assert "is 105, expected 205" in found[1]
    assert "1 call has tokens that we estimated, 10 in all" in found[2]
    assert any("missing: " in entry for entry in found[3:])
    assert any("extra: " in entry for entry in found[3:])


@pytest.mark.django_db
def test_the_command_keeps_the_result_for_the_admin(tmp_path: Path, admin_client: Client) -> None:
    call = make_calls()
    path = tmp_path / "november.csv"
    path.write_text(HEAD + line(call))
    call_command("reconcile")
    call_command("reconcile", provider_csv=path, upstream=UsageRecord.objects.values_list("upstream", flat=True)[0])
    path.write_text(HEAD + line(call, received=1))
    with pytest.raises(CommandError, match="differ"):
        call_command("reconcile", provider_csv=path)
    runs = list(ReconciliationRun.objects.order_by("id").values_list("kind", "is_clean", "difference_count", "source"))
    assert runs == [
        ("books", True, 0, ""),
        ("provider", True, 0, "november.csv"),
        ("provider", False, 1, "november.csv"),
    ]
    assert "no difference" in admin_client.get("/admin/billing/reconciliationrun/").content.decode()
    last = ReconciliationRun.objects.latest("id")
    assert "input tokens" in admin_client.get(f"/admin/billing/reconciliationrun/{last.pk}/change/").content.decode()

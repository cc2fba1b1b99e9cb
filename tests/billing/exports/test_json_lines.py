import json

import pytest

from billing.export_models import ExportAudience
from tests.exporting import ALWAYS, COST, START, settle_one, text
from tests.factories import funded_call

pytestmark = pytest.mark.django_db


def test_values_keep_their_types_and_amounts_their_digits() -> None:
    request_id = settle_one(funded_call(), at=START, tags='{"team": "a"}', end_user="=1+1", ttft_ms=None)
    (row,) = (json.loads(line) for line in text("usage", "jsonl").splitlines())
    assert (row["request_id"], row["cost_usd"], row["cost_nanousd"]) == (request_id, "0.000033", COST)
    assert (row["is_stream"], row["tags"], row["ttft_ms"]) == (True, {"team": "a"}, None)
    # No spreadsheet reads this, so that nothing is put before it.
    assert row["end_user"] == "=1+1"


def test_empty_tags_are_an_object() -> None:
    settle_one(funded_call(), at=START)
    assert json.loads(text("usage", "jsonl"))["tags"] == {}


def test_a_range_without_rows_is_an_empty_file() -> None:
    assert text("ledger", "jsonl") == ""


@pytest.mark.parametrize("format_name", ["jsonl", "cloudevents", "csv", "focus"])
def test_a_customer_never_sees_what_is_the_platforms_own(format_name: str) -> None:
    call = funded_call()
    settle_one(call, at=START, upstream="secret-upstream", upstream_model="secret-name")
    options = {"customer_id": call.customer_id, "audience": ExportAudience.CUSTOMER}
    file = text("usage", format_name, **options)
    assert call.principal.customer_public_id in file
    for word in ("secret-upstream", "secret-name", "provider_cost", "overhead_us"):
        assert word not in file
    if format_name != "focus":
        ledger = text("ledger", format_name, start=ALWAYS[0], end=ALWAYS[1], **options)
        assert call.principal.customer_public_id in ledger
        for word in ("for a test", "tests", f"customer:{call.customer_id}", "reason", "author"):
            assert word not in ledger

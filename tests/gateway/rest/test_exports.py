import csv
import hashlib
import io
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient, Client

from billing.export_models import ExportRun
from keys.issuing import IssuedKey
from keys.models import Customer
from keys.scopes import Scope
from tests.exporting import ALWAYS, COST, START, settle_one
from tests.factories import FundedCall, funded_call, make_customer, make_key

pytestmark = pytest.mark.django_db
NOVEMBER = "from=2026-11-01&to=2026-12-01"
EVER = f"from={ALWAYS[0]:%Y-%m-%d}&to={ALWAYS[1]:%Y-%m-%d}"


@pytest.fixture
def call() -> FundedCall:
    return funded_call()


def ask(client: Client, token: str, query: str) -> Any:
    return client.get(f"/v1/exports{query}", headers={"authorization": f"Bearer {token}"})


def rows_of(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.content
    return list(csv.DictReader(io.StringIO(b"".join(answer).decode(), newline="")))


def scoped(call: FundedCall, *scopes: Scope) -> IssuedKey:
    return make_key(Customer.objects.get(pk=call.customer_id), name="scoped", scopes=list(scopes))


def test_a_customer_gets_its_own_rows_and_nothing_of_the_platforms(client: Client, call: FundedCall) -> None:
    other = funded_call()
    request_id = settle_one(call, at=START, upstream="secret-upstream")
    settle_one(other, at=START)
    answer = ask(client, call.token, f"?{NOVEMBER}")
    assert answer["content-type"] == "text/csv; charset=utf-8"
    assert answer["content-disposition"].endswith('filename="tollkeeper-usage-2026-11-01-2026-12-01.csv"')
    (row,) = rows_of(answer)
    assert (row["request_id"], row["charged_nanousd"]) == (request_id, str(COST))
    assert not {"upstream", "upstream_model", "provider_cost_usd", "provider_cost_nanousd", "overhead_us"} & row.keys()
    ledger = rows_of(ask(client, call.token, f"?dataset=ledger&{EVER}"))
    assert sorted(entry["kind"] for entry in ledger) == ["direct", "pending", "post"]
    assert {entry["customer_id"] for entry in ledger} == {call.principal.customer_public_id}
    assert not {"reason", "author", "reference"} & ledger[0].keys()


@pytest.mark.parametrize("format_name", ["csv", "jsonl", "xlsx", "focus", "cloudevents"])
def test_the_manifest_of_a_file_proves_it(client: Client, call: FundedCall, format_name: str) -> None:
    settle_one(call, at=START)
    answer = ask(client, call.token, f"?format={format_name}&from=2026-11-01&to=2026-11-02")
    file = b"".join(answer)
    manifest = ask(client, call.token, f"/{answer['x-export-id']}").json()
    assert manifest["sha256"] == hashlib.sha256(file).hexdigest()
    assert (manifest["total_usd"], manifest["byte_count"], manifest["format"]) == ("0.000033", len(file), format_name)
    assert (manifest["range_start"], manifest["object"]) == ("2026-11-01T00:00:00Z", "export")
    assert ExportRun.objects.get().author == call.principal.key_public_id


def test_a_manifest_of_somebody_else_is_not_there(client: Client, call: FundedCall) -> None:
    answer = ask(client, call.token, f"?{NOVEMBER}")
    b"".join(answer)
    outsider = make_key(make_customer())
    for path in (f"/{answer['x-export-id']}", "/exp_none", "/%00"):
        assert ask(client, outsider.token, path).status_code == 404
    assert ask(client, outsider.token, f"/{answer['x-export-id']}").json()["error"]["code"] == "not_found"


def test_each_dataset_has_its_scope(client: Client, call: FundedCall) -> None:
    usage, billing = scoped(call, Scope.USAGE_READ).token, scoped(call, Scope.BILLING_READ).token
    ledger = f"?dataset=ledger&{NOVEMBER}"
    assert rows_of(ask(client, usage, f"?{NOVEMBER}")) == []
    found = ask(client, billing, ledger)
    assert rows_of(found)
    for token, query, scope in ((usage, ledger, "billing:read"), (billing, f"?{NOVEMBER}", "usage:read")):
        refused = ask(client, token, query)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
        assert refused.json()["error"]["details"] == {"required_scope": scope}
    manifest = f"/{found['x-export-id']}"
    assert ask(client, billing, manifest).status_code == 200
    assert ask(client, usage, manifest).status_code == 403


def test_without_a_key_there_is_nothing(client: Client) -> None:
    for path in (f"?{NOVEMBER}", "/exp_none"):
        assert ask(client, "tk_live_wrong", path).status_code == 401


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("from=2026-11-01", "to", "invalid_request"),
        ("to=2026-11-01", "from", "invalid_request"),
        ("from=&to=2026-11-01", "from", "invalid_request"),
        ("from=%00&to=2026-11-01", "from", "invalid_export"),
        ("from=soon&to=2026-11-01", "from", "invalid_export"),
        ("from=2026-11-01&to=9999-12-31T23:59:59-23:59", "to", "invalid_export"),
        ("from=2026-12-01&to=2026-11-01", "to", "invalid_export"),
        (f"{NOVEMBER}&dataset=jobs", "dataset", "invalid_export"),
        (f"{NOVEMBER}&format=pdf", "format", "invalid_export"),
        (f"{NOVEMBER}&dataset=ledger&format=focus", "format", "invalid_export"),
        (f"{NOVEMBER}&dataset=ledger&format=beancount", "format", "invalid_export"),
        (f"{NOVEMBER}&customer=cus_other", "customer", "unknown_parameter"),
    ],
)
def test_no_question_breaks_it(client: Client, call: FundedCall, query: str, param: str, code: str) -> None:
    answer = ask(client, call.token, f"?{query}")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)


def test_a_look_at_the_headers_makes_no_file(client: Client, call: FundedCall) -> None:
    answer = client.head(f"/v1/exports?{NOVEMBER}", headers={"authorization": f"Bearer {call.token}"})
    assert answer.status_code == 200
    assert not ExportRun.objects.exists()


@pytest.mark.django_db(transaction=True)
async def test_it_streams_under_asgi_too(async_client: AsyncClient, off_loop: Any) -> None:
    call = await off_loop(funded_call)
    request_id = await off_loop(settle_one, call, at=START)
    # Any: the test client's answers are typed as if none of them could be a stream.
    answer: Any = await async_client.get(f"/v1/exports?{NOVEMBER}", headers={"authorization": f"Bearer {call.token}"})
    file = b"".join([chunk async for chunk in answer])
    # The thread that read the rows is the test's own here, and outlives it.
    await sync_to_async(connections.close_all)()
    assert request_id.encode() in file
    run = await off_loop(ExportRun.objects.get)
    assert run.sha256 == hashlib.sha256(file).hexdigest()

import json

import pytest

from tests.exporting import ALWAYS, COST, START, settle_one, text
from tests.factories import funded_call

pytestmark = pytest.mark.django_db
REQUIRED = {"specversion", "id", "source", "type"}


def test_a_call_is_an_event_with_the_required_attributes() -> None:
    call = funded_call()
    request_id = settle_one(call, at=START, tags='{"team": "a"}')
    (event,) = (json.loads(line) for line in text("usage", "cloudevents").splitlines())
    assert event.keys() >= REQUIRED
    assert (event["specversion"], event["type"]) == ("1.0", "tollkeeper.usage")
    assert (event["id"], event["subject"]) == (f"{request_id}-0", call.principal.customer_public_id)
    assert event["time"] == event["data"]["started_at"] == "2026-11-01T00:00:00.000000Z"
    assert (event["data"]["charged_usd"], event["data"]["charged_nanousd"]) == ("0.000033", COST)
    assert (event["data"]["tags"], event["data"]["is_stream"]) == ({"team": "a"}, True)


@pytest.mark.parametrize("dataset", ["usage", "ledger"])
def test_ids_are_the_same_in_every_run_and_unlike_each_other(dataset: str) -> None:
    call = funded_call()
    for _ in range(3):
        settle_one(call, at=START)
    runs = [text(dataset, "cloudevents", start=ALWAYS[0], end=ALWAYS[1]) for _ in range(2)]
    ids = [[json.loads(line)["id"] for line in run.splitlines()] for run in runs]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0]) == {"usage": 3, "ledger": 7}[dataset]


def test_a_correction_of_a_lost_call_is_an_event_of_its_own() -> None:
    from billing.models import UsageRecord

    request_id = settle_one(funded_call(), at=START)
    lost = UsageRecord.objects.get()
    lost.pk, lost.sequence = None, 1
    lost.save(force_insert=True)
    ids = [json.loads(line)["id"] for line in text("usage", "cloudevents").splitlines()]
    assert ids == [f"{request_id}-0", f"{request_id}-1"]

"""Answers that nobody pays for: free where a rule says so, and nowhere else; the books agree."""

from typing import Any

import pytest

from billing.models import UsageRecord, UsageStatus
from billing.terms import publish_terms
from billing.waiving import NoCharge
from tests.flows.platform import Caller, Platform
from tests.flows.wire import ask
from tests.upstream import Behaviour, make_usage

EMPTY = Behaviour(text="", events=0, usage=make_usage(prompt_tokens=10, completion_tokens=1))
BROKEN = Behaviour(cut_at=2)
PROVIDER_RATES = {"provider_input_nanousd": 500_000_000, "provider_output_nanousd": 500_000_000}


def make_caller(platform: Platform, **columns: Any) -> Caller:
    model = platform.make_model(with_price=False, **columns)
    platform.make_price(model, **PROVIDER_RATES)
    return platform.make_caller(model=model)


async def call(platform: Platform, caller: Caller, behaviour: Behaviour) -> tuple[UsageRecord, dict[str, Any]]:
    """Make one call, a stream if it is to break; return its record and its receipt, if there was one."""
    before = len(platform.read_usage(caller))
    platform.upstream.queue(behaviour, target=caller.model)
    answer = await ask(platform.server, caller, stream=behaviour is BROKEN)
    record = platform.wait_for_usage(caller, before + 1)[-1]
    return record, {} if answer.is_stream else answer.body["tollkeeper"]


async def test_an_empty_answer_is_free_where_its_model_says_so(platform: Platform) -> None:
    caller = make_caller(platform, no_charge_on="empty")
    record, receipt = await call(platform, caller, EMPTY)
    assert (record.status, record.flags, record.charged_nanousd) == (UsageStatus.COMPLETED, "no_charge_empty", 0)
    assert (record.cost_nanousd, record.provider_cost_nanousd) == (14_000, 5_500)
    assert (receipt["cost_usd"], receipt["no_charge"]) == ("0.00", "empty")
    broken, _ = await call(platform, caller, BROKEN)
    assert broken.status == UsageStatus.INTERRUPTED
    assert broken.charged_nanousd == broken.cost_nanousd > 0
    platform.assert_settled(caller)
    platform.reconcile()


async def test_a_broken_answer_is_free_under_terms_that_say_so(platform: Platform) -> None:
    caller = make_caller(platform)
    platform.run(lambda: publish_terms(customer_id=caller.customer_id, no_charge_on=NoCharge.FAILED, author="tests"))
    broken, _ = await call(platform, caller, BROKEN)
    assert (broken.status, broken.flags, broken.charged_nanousd) == (UsageStatus.INTERRUPTED, "no_charge_failed", 0)
    assert broken.cost_nanousd > 0
    record, receipt = await call(platform, caller, EMPTY)
    assert record.charged_nanousd == record.cost_nanousd > 0
    assert "no_charge" not in receipt
    platform.assert_settled(caller)


async def test_an_answer_of_the_wrong_shape_was_produced_and_is_charged(platform: Platform) -> None:
    caller = make_caller(platform, no_charge_on="both")
    platform.upstream.queue(Behaviour(text="no JSON at all"), target=caller.model)
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "required": ["a"]}}}
    answer = await ask(platform.server, caller, response_format=schema, headers={"x-max-attempts": "1"})
    assert (answer.status, answer.error["code"]) == (422, "output_invalid")
    record = platform.settle_one(caller)
    assert record.charged_nanousd == record.cost_nanousd > 0
    assert "no_charge" not in record.flags
    platform.assert_settled(caller)


@pytest.mark.parametrize("behaviour", [EMPTY, BROKEN], ids=["empty", "broken"])
async def test_without_a_rule_every_answer_is_charged(platform: Platform, behaviour: Behaviour) -> None:
    caller = make_caller(platform)
    record, _ = await call(platform, caller, behaviour)
    assert record.charged_nanousd == record.cost_nanousd > 0
    platform.assert_settled(caller)

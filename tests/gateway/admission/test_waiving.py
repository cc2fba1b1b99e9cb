"""Who pays nothing for failed or empty answers, also where the server died or a settlement came late."""

import orjson
import pytest

from billing.accounts import get_balance
from billing.models import UsageRecord
from billing.reconciliation.running import reconcile
from billing.terms import publish_terms
from billing.waiving import NoCharge, find_waiver
from common.clock import FrozenClock
from gateway.admission.commands import Admit, NoteProgress, Settled
from tests.admitting import assert_books_agree, make_context, run
from tests.billing.test_money_admin import make_usage
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call


@pytest.mark.parametrize(
    ("rules", "has_failed", "is_empty", "flag"),
    [
        (("", ""), True, True, ""),
        (("failed", ""), True, False, "no_charge_failed"),
        (("", "failed"), False, True, ""),
        (("empty", "failed"), False, True, "no_charge_empty"),
        (("", "both"), True, False, "no_charge_failed"),
        (("both", ""), False, True, "no_charge_empty"),
        (("both", "both"), False, False, ""),
    ],
)
def test_a_rule_of_the_model_or_of_the_terms_suffices(
    *, rules: tuple[str, str], has_failed: bool, is_empty: bool, flag: str
) -> None:
    assert find_waiver(*rules, has_failed=has_failed, is_empty=is_empty) == flag


def admit(call: FundedCall) -> Admit:
    """Return the question of a call under terms that do not charge failures."""
    terms = publish_terms(customer_id=call.customer_id, no_charge_on=NoCharge.FAILED, author="tests")
    question = call.refreshed().admit(lifetime_seconds=60)
    draft = orjson.dumps({**orjson.loads(question.draft), "price_terms_id": terms.pk}).decode()
    return question._replace(draft=draft)


@pytest.mark.django_db
def test_a_stream_whose_server_died_is_free_and_a_late_settlement_charges_nothing_either() -> None:
    clock = FrozenClock(NOON_US)
    context = make_context(clock)
    call = funded_call(credit_nanousd=10_000_000)
    question = admit(call)
    run(question, context=context)
    run(NoteProgress(request_id=question.request_id, output_tokens=50), context=context)
    clock.advance(seconds=61)
    run(context=context)
    record = UsageRecord.objects.get()
    assert (record.flags, record.charged_nanousd) == ("server_died,no_charge_failed", 0)
    assert record.cost_nanousd > 0
    late = call.settle(question.request_id, cost_nanousd=500_000, started_us=NOON_US)
    late = late._replace(usage=late.usage._replace(flags="no_charge_failed"))
    (answer,) = run(late, context=context)
    assert isinstance(answer, Settled)
    assert answer.charged_nanousd == 0
    assert get_balance(call.customer_id).available_nanousd == 10_000_000
    assert_books_agree(call.customer_id)


@pytest.mark.django_db
def test_reconcile_names_a_charge_that_its_own_flags_exclude() -> None:
    record = make_usage(flags="no_charge_empty")
    (difference,) = [d for check in reconcile().checks if check.name == "usage costs" for d in check.differences]
    assert str(record.request_id) in str(difference)
    assert "0, as its flags say (no_charge_empty)" in str(difference)

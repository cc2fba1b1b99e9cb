"""What content rules found in a call is on record, once, whoever is left to write it down."""

import pytest

from billing.models import Hold, UsageRecord
from common.clock import FrozenClock
from gateway.admission.context import BatchContext
from gateway.guard_models import GuardCount, GuardDecision
from gateway.guard_rows import KEPT_A_CALL, GuardNotes, freeze_notes, pack_notes, unpack_notes
from gateway.guards.values import Action, Finding
from tests.admitting import run
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db


def notes_of(number: int, *, place: str = "messages[0].content", action: Action = Action.FLAG) -> GuardNotes:
    notes = GuardNotes()
    for start in range(number):
        notes.add(Finding("default", "pii.email", action, place, start, start + 1))
    return notes


def admit(call: FundedCall, context: BatchContext, notes: GuardNotes | None) -> str:
    question = call.admit(amount_nanousd=100, lifetime_seconds=60, notes=notes)
    run(question, context=context)
    return question.request_id


def counted() -> list[tuple[str, str, int]]:
    return list(GuardCount.objects.order_by("action").values_list("rule", "action", "findings"))


@pytest.fixture
def call() -> FundedCall:
    return funded_call(credit_nanousd=1_000)


def test_findings_of_a_call_that_nobody_settles_are_written_when_its_hold_expires(
    call: FundedCall, context: BatchContext, clock: FrozenClock
) -> None:
    request_id = admit(call, context, notes_of(2))
    assert counted() == []
    clock.advance(seconds=60)
    run(context=context)
    rows = GuardDecision.objects.filter(request_id=request_id).order_by("number")
    assert [(row.number, row.policy, row.rule, row.action, row.place, row.start_offset) for row in rows] == [
        (number, "default", "pii.email", "flag", "messages[0].content", number) for number in range(2)
    ]
    assert {(row.customer_id, row.api_key_id) for row in rows} == {(call.customer_id, call.principal.key_id)}
    assert counted() == [("pii.email", "flag", 2)]
    assert UsageRecord.objects.get(request_id=request_id).flags == "server_died,guard_flag"


def test_a_call_without_findings_carries_nothing_of_them(
    call: FundedCall, context: BatchContext, clock: FrozenClock
) -> None:
    drafts = []
    for notes in (None, GuardNotes()):
        request_id = admit(call, context, notes)
        drafts.append(Hold.objects.get(request_id=request_id).draft)
    assert drafts[0] == drafts[1]
    assert "findings" not in drafts[0]
    clock.advance(seconds=60)
    run(context=context)
    assert not GuardDecision.objects.exists()
    assert set(UsageRecord.objects.values_list("flags", flat=True)) == {"server_died"}


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("expires", [True, False])
def test_what_is_settled_is_counted_once_also_after_its_hold_has_expired(
    *, call: FundedCall, context: BatchContext, clock: FrozenClock, expires: bool, together: bool
) -> None:
    held = notes_of(2)
    request_id = admit(call, context, held)
    noted = tuple(held.counts.items())
    # The answer, after that.
    held.add(Finding("default", "pii.email", Action.FLAG, "choices[0].content", 5, 6))
    held.add(Finding("default", "secrets", Action.BLOCK, "choices[0].content", 7, 8))
    findings = freeze_notes(
        held, request_id=request_id, customer_id=call.customer_id, api_key_id=call.principal.key_id, held=noted
    )
    if expires:
        clock.advance(seconds=61)
        if not together:
            run(context=context)
    settlement = call.settle(request_id, cost_nanousd=10, started_us=NOON_US)._replace(findings=findings)
    run(settlement, settlement, context=context)
    assert counted() == [("secrets", "block", 1), ("pii.email", "flag", 3)]
    rows = GuardDecision.objects.filter(request_id=request_id).order_by("number")
    assert [(row.number, row.place) for row in rows] == [
        (0, "messages[0].content"),
        (1, "messages[0].content"),
        (2, "choices[0].content"),
        (3, "choices[0].content"),
    ]


def test_what_is_packed_is_bounded_and_comes_back() -> None:
    notes = notes_of(1_000, place="inputs." + "\x00x" * 500_000)
    packed = pack_notes(notes)
    found = unpack_notes(packed)
    assert found.counts == notes.counts
    assert len(found.first) == KEPT_A_CALL
    assert {len(finding.place) for finding in found.first} < set(range(201))
    assert pack_notes(found) == packed


def test_findings_that_cannot_be_read_do_not_keep_a_hold_open(
    call: FundedCall, context: BatchContext, clock: FrozenClock
) -> None:
    request_id = admit(call, context, notes_of(1))
    hold = Hold.objects.get(request_id=request_id)
    Hold.objects.filter(request_id=request_id).update(draft=hold.draft.replace('"flag"', '"of_next_year"'))
    clock.advance(seconds=60)
    run(context=context)
    assert not Hold.objects.exists()
    assert not GuardDecision.objects.exists()

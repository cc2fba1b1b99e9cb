"""Refusals are kept up to a bound, counted exactly beyond it, pruned by age, and never in anybody's way."""

import pytest
from django.db import connection, transaction

from common.clock import FrozenClock
from common.errors import InvalidRequest, TollkeeperError
from common.sql import Sql
from gateway.admission.commands import NoteRefusal, Refused
from gateway.models import Refusal, RefusalCount
from gateway.refusals import KEPT_A_MINUTE, KEPT_DAYS, NewRefusal, prune_refusals, write_refusals
from tests.admitting import make_context, run
from tests.conftest import NOON_US
from tests.factories import FundedCall, funded_call

pytestmark = pytest.mark.django_db

MINUTE = 60_000_000
DAY = 1440 * MINUTE


def _new(call: FundedCall, request_id: str, error: TollkeeperError | None = None) -> NewRefusal:
    return NewRefusal(
        request_id=request_id,
        customer_id=call.customer_id,
        api_key_id=call.principal.key_id,
        operation="chat.completions",
        model=call.model,
        error=error or InvalidRequest("No."),
    )


def _write(*refusals: NewRefusal, now_us: int = NOON_US) -> None:
    with transaction.atomic(), connection.wrap_database_errors:
        write_refusals(Sql(connection), refusals, now_us=now_us)


def test_what_admission_refuses_is_kept_with_every_limit_as_it_stood() -> None:
    call = funded_call(plan_limits={"requests_per_minute": 5}, key_limits={"spend_per_day_nanousd": 150})
    first, second = run(call.admit(amount_nanousd=100), call.admit(amount_nanousd=100, request_id="req_second"))
    assert not isinstance(first, Refused)
    assert isinstance(second, Refused)
    row = Refusal.objects.get()
    assert (row.request_id, row.code, row.status) == ("req_second", "budget_exceeded", 429)
    assert (row.customer_id, row.api_key_id) == (call.customer_id, call.principal.key_id)
    assert (row.message, row.details["set_by"]) == (second.error.message, "key")
    checked = {(r["limit_name"], r["owner"]): (r["limit"], r["remaining"]) for r in row.checked}
    assert checked == {("requests", "customer"): ("5", "4"), ("spend-day", "key"): ("0.00000015", "0.00000005")}


def test_what_was_refused_before_admission_is_noted_too() -> None:
    call = funded_call()
    run(NoteRefusal(refusal=_new(call, "req_1", InvalidRequest("Too long.", details={"limit": 5}))))
    row = Refusal.objects.get()
    assert (row.request_id, row.message, row.details, row.checked) == ("req_1", "Too long.", {"limit": 5}, [])


def test_a_flood_leaves_a_bounded_number_of_rows_and_an_exact_count() -> None:
    call = funded_call(key_limits={"concurrency": 0})
    other = funded_call(key_limits={"concurrency": 0}, model=call.model)
    context = make_context(FrozenClock(NOON_US))
    for _ in range(3):
        run(*(call.admit() for _ in range(25)), other.admit(), context=context)
    of_call = Refusal.objects.filter(api_key_id=call.principal.key_id)
    assert of_call.count() == KEPT_A_MINUTE
    assert RefusalCount.objects.get(api_key_id=call.principal.key_id).refused == 75
    assert Refusal.objects.filter(api_key_id=other.principal.key_id).count() == 3


def test_the_next_minute_has_room_again() -> None:
    call = funded_call()
    _write(*(_new(call, f"req_a{n}") for n in range(KEPT_A_MINUTE + 5)))
    _write(_new(call, "req_late"))
    _write(_new(call, "req_next"), now_us=NOON_US + MINUTE)
    kept = set(Refusal.objects.values_list("request_id", flat=True))
    assert len(kept) == KEPT_A_MINUTE + 1
    assert "req_next" in kept
    assert list(RefusalCount.objects.order_by("minute").values_list("refused", flat=True)) == [KEPT_A_MINUTE + 6, 1]


def test_a_refusal_that_cannot_be_written_costs_nobody_anything() -> None:
    call = funded_call()
    lost = _new(call, "req_lost")._replace(api_key_id=None)  # type: ignore[arg-type]
    (admitted, _) = run(call.admit(), NoteRefusal(refusal=lost))
    assert not isinstance(admitted, Refused)
    assert not Refusal.objects.exists()


def test_zero_bytes_in_what_a_caller_sent_do_not_lose_the_row() -> None:
    call = funded_call()
    _write(_new(call, "req_zero", InvalidRequest("No \x00.", details={"name": "a\x00b"}))._replace(model="m\x00"))
    row = Refusal.objects.get()
    assert (row.model, row.message, row.details) == ("m", "No .", {"name": "ab"})


def test_old_rows_and_counts_are_pruned() -> None:
    call = funded_call()
    _write(_new(call, "req_old"), now_us=NOON_US - KEPT_DAYS * DAY - MINUTE)
    _write(_new(call, "req_new"), now_us=NOON_US)
    prune_refusals(Sql(connection), now_us=NOON_US)
    assert Refusal.objects.get().request_id == "req_new"
    assert RefusalCount.objects.count() == 1

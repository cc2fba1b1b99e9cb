"""A raise counts from its start to its end and not a microsecond longer, on customer and key alike."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from common.clock import to_us
from keys.errors import LimitRaiseEnded, LimitRaiseInvalid
from keys.issuing import rotate_key
from keys.limit_values import LimitValues, Raise, apply_raises
from keys.models import ApiKey, AuditEvent, Customer, LimitRaise
from keys.raising import end_raise, limits_in_force, raise_limit
from tests.factories import find_principal, make_customer, make_key, make_plan, make_raise

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def customer() -> Customer:
    return make_customer(plan=make_plan(requests_per_minute=10, spend_per_day_nanousd=100), limits={"concurrency": 2})


def _raise(owner: Customer | ApiKey, **changes: object) -> LimitRaise:
    wanted: dict[str, object] = {
        "owner": owner,
        "limit_name": "requests_per_minute",
        "value": 30,
        "ends_at": NOW + HOUR,
        "reason": "launch week",
        "now": NOW,
        **changes,
    }
    return raise_limit(**wanted)  # type: ignore[arg-type]


def test_a_raise_counts_from_its_start_until_its_end(customer: Customer) -> None:
    _raise(customer)
    principal = find_principal(make_key(customer).token)
    for moment, requests in ((NOW, 30), (NOW + HOUR - timedelta(microseconds=1), 30), (NOW + HOUR, 10)):
        limits, _ = principal.limits_at(to_us(moment))
        assert limits.requests_per_minute == requests
        assert limits.sources["requests_per_minute"] == ("customer" if requests == 30 else "plan")
        assert limits_in_force(customer, moment).requests_per_minute == requests
    before, _ = principal.limits_at(to_us(NOW) - 1)
    assert before.requests_per_minute == 10


def test_a_raise_of_a_key_leaves_its_customer_and_its_siblings_alone(customer: Customer) -> None:
    raised, other = (make_key(customer, limits={"concurrency": 1}) for _ in range(2))
    _raise(raised.key, limit_name="concurrency", value=9)
    limits, of_key = find_principal(raised.token).limits_at(to_us(NOW))
    assert (limits.concurrency, of_key.concurrency) == (2, 9)
    assert of_key.raised_until_us == {"concurrency": to_us(NOW + HOUR)}
    _, of_other = find_principal(other.token).limits_at(to_us(NOW))
    assert of_other.concurrency == 1


def test_of_several_raises_the_highest_counts_and_none_lowers() -> None:
    limits = LimitValues(concurrency=5)
    raises = [
        Raise(owner="key:1", column="concurrency", value=value, starts_us=0, ends_us=10 + value) for value in (4, 9, 7)
    ]
    assert [apply_raises(limits, raises, now_us, "key").concurrency for now_us in (0, 18, 19, 100)] == [9, 9, 5, 5]
    # Where there is no limit, nothing is raised.
    assert apply_raises(LimitValues(), raises, 0, "key") == LimitValues()


def test_a_raise_that_is_ended_early_counts_no_more(customer: Customer) -> None:
    raised = _raise(customer)
    end_raise(raise_id=raised.pk, now=NOW + HOUR / 2)
    assert limits_in_force(customer, NOW + HOUR / 2).requests_per_minute == 10
    with pytest.raises(LimitRaiseEnded):
        end_raise(raise_id=raised.pk, now=NOW + HOUR / 2)


def test_the_trail_tells_who_raised_what_until_when_and_why(customer: Customer) -> None:
    raised = _raise(customer)
    end_raise(raise_id=raised.pk, now=NOW, reason="a mistake")
    made, ended = AuditEvent.objects.filter(object_id=str(customer.pk), action__contains="raise").order_by("id")
    assert (made.action, made.reason) == ("customer.limit_raised", "launch week")
    assert (made.before, made.after["requests_per_minute"]) == ({"requests_per_minute": 10}, 30)
    assert (ended.action, ended.reason) == ("customer.raise_ended", "a mistake")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"limit_name": "burst_seconds"}, "limit_name"),
        ({"limit_name": "nonsense"}, "limit_name"),
        ({"limit_name": "search_requests_per_minute"}, "limit_name"),
        ({"value": 10}, "value"),
        ({"value": 2**63}, "value"),
        ({"limit_name": "concurrency", "value": 2**31}, "value"),
        ({"ends_at": NOW}, "ends_at"),
        ({"reason": " "}, "reason"),
    ],
)
def test_what_is_no_raise_is_refused_with_the_field(customer: Customer, changes: dict[str, object], param: str) -> None:
    with pytest.raises(LimitRaiseInvalid) as refused:
        _raise(customer, **changes)
    assert refused.value.param == param
    assert not LimitRaise.objects.exists()


def test_the_database_refuses_a_raise_of_nobody_and_of_both(customer: Customer) -> None:
    key = make_key(customer).key
    columns = {"limit_name": "concurrency", "value": 3, "starts_at": NOW, "ends_at": NOW, "reason": "x"}
    for owners in ({}, {"customer": customer, "api_key": key}):
        with pytest.raises(IntegrityError), transaction.atomic():
            LimitRaise.objects.create(**columns, **owners, created_at=NOW, created_by="me")


def test_the_successor_of_a_rotated_key_keeps_what_is_raised(customer: Customer) -> None:
    old = make_key(customer, limits={"concurrency": 1})
    make_raise(old.key, "concurrency", 7)
    new = rotate_key(key_id=old.key.pk, overlap=HOUR, reason="yearly", author="tests")
    for token in (old.token, new.token):
        _, limits = find_principal(token).limits_at(to_us(datetime.now(UTC)))
        assert limits.concurrency == 7

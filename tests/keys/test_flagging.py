"""A flag counts from its start to its end, for whom it is meant and nobody else, and the nearest rule decides."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from common.clock import to_us
from keys.errors import FeatureRuleEnded, FeatureRuleInvalid, FeatureUnknown
from keys.features import FEATURES, RESUMABLE_STREAMS, Feature, Rule, decide_feature, is_in_share
from keys.flagging import end_feature_rule, set_feature
from keys.issuing import IssuedKey, rotate_key
from keys.models import ApiKey, AuditEvent, Customer, FeatureRule
from tests.factories import find_principal, make_customer, make_key

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAME = RESUMABLE_STREAMS.name


@pytest.fixture
def key(db: None) -> IssuedKey:
    return make_key()


def switch(owner: Customer | ApiKey | None = None, **changes: Any) -> FeatureRule:
    return set_feature(
        **{"feature": NAME, "is_on": True, "owner": owner, "reason": "for a test", "now": NOW, **changes}
    )


def is_on(token: str, moment: datetime = NOW) -> bool:
    return find_principal(token).has_feature(RESUMABLE_STREAMS, to_us(moment))


def test_without_a_rule_the_default_counts(key: IssuedKey) -> None:
    principal = find_principal(key.token)
    for feature in FEATURES.values():
        assert principal.has_feature(feature, to_us(NOW)) is feature.default
    assert {standing.set_by for standing in principal.standings_at(0)} == {"default"}


def test_a_flag_is_on_from_its_start_until_its_end(key: IssuedKey) -> None:
    switch(key.key.customer, starts_at=NOW + HOUR, ends_at=NOW + 2 * HOUR)
    moments = (NOW, NOW + HOUR, NOW + 2 * HOUR - timedelta(microseconds=1), NOW + 2 * HOUR)
    assert [is_on(key.token, moment) for moment in moments] == [False, True, True, False]


def test_a_rule_is_about_its_owner_alone_and_follows_a_rotation(key: IssuedKey) -> None:
    sister, stranger = make_key(key.key.customer), make_key()
    switch(key.key)
    successor = rotate_key(key_id=key.key.pk, overlap=HOUR, reason="for a test", author="tests")
    tokens = (key, successor, sister, stranger)
    assert [is_on(each.token) for each in tokens] == [True, True, False, False]


def test_the_nearest_rule_decides_and_of_equals_the_latest(key: IssuedKey) -> None:
    switch()
    assert is_on(key.token)
    switch(key.key.customer, is_on=False)
    assert not is_on(key.token)
    switch(key.key)
    assert is_on(key.token)
    last = switch(key.key, is_on=False, ends_at=NOW + HOUR)
    assert not is_on(key.token)
    assert is_on(key.token, NOW + HOUR)
    standing = decide_feature(RESUMABLE_STREAMS, find_principal(key.token).features[NAME], to_us(NOW))
    assert (standing.set_by, standing.until_us) == ("key", to_us(last.ends_at or NOW))


def test_a_share_keeps_its_customers_while_it_grows() -> None:
    before: set[int] = set()
    for percent in (1, 10, 50, 99, 100):
        now = {customer for customer in range(2_000) if is_in_share(NAME, customer, percent)}
        assert before <= now
        before = now
    assert len(before) == 2_000
    half = sum(is_in_share(NAME, customer, 50) for customer in range(2_000))
    assert 900 < half < 1_100
    assert any(is_in_share(NAME, c, 50) != is_in_share("another", c, 50) for c in range(2_000))


def test_a_share_is_of_customers_not_of_keys(db: None) -> None:
    customers = [make_customer(credit_usd="0") for _ in range(12)]
    switch(share_percent=50)
    for customer in customers:
        first, second = make_key(customer), make_key(customer)
        assert is_on(first.token) is is_on(second.token) is is_in_share(NAME, customer.pk, 50)


def test_a_default_that_is_on_can_be_switched_off() -> None:
    feature = Feature(name="settled", description="", declared_on=NOW.date(), default=True)
    off = Rule(1, "settled", "customer", False, 0, None)
    assert decide_feature(feature, (), 1).is_on
    assert not decide_feature(feature, (off,), 1).is_on
    assert decide_feature(feature, (off._replace(feature="another"),), 1).is_on


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"reason": " "}, "reason"),
        ({"share_percent": 0}, "share_percent"),
        ({"share_percent": 101}, "share_percent"),
        ({"ends_at": NOW}, "ends_at"),
        ({"starts_at": NOW + HOUR, "ends_at": NOW + HOUR}, "ends_at"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(db: None, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(FeatureRuleInvalid) as refused:
        switch(**changes)
    assert refused.value.param == param


def test_unknown_flags_and_shares_of_one_owner_are_refused(key: IssuedKey) -> None:
    with pytest.raises(FeatureUnknown):
        switch(feature="no_such_flag")
    with pytest.raises(FeatureRuleInvalid):
        switch(key.key, share_percent=50)
    with pytest.raises(IntegrityError), transaction.atomic():
        FeatureRule.objects.create(
            feature=NAME, customer=key.key.customer, share_percent=50, starts_at=NOW, created_at=NOW, reason="by hand"
        )


def test_a_rule_ends_once_and_both_are_on_the_trail_of_its_owner(key: IssuedKey) -> None:
    rule = switch(key.key)
    end_feature_rule(rule_id=rule.pk, reason="it broke", now=NOW + HOUR)
    assert not is_on(key.token, NOW + HOUR)
    with pytest.raises(FeatureRuleEnded):
        end_feature_rule(rule_id=rule.pk, reason="again", now=NOW + HOUR)
    events = AuditEvent.objects.filter(object_kind="keys.apikey", object_id=str(key.key.pk), action__startswith="feat")
    assert [(e.action, e.reason) for e in events.order_by("id")] == [
        ("feature.set", "for a test"),
        ("feature.ended", "it broke"),
    ]

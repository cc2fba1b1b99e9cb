"""Switching flags on and off: for a key, a customer, or a share of all customers, with an end, a reason, and an entry.

Nothing has to run when a rule begins or ends: every call asks the clock (`keys.features`).
"""

from datetime import UTC, datetime

from django.db import transaction

from keys.audit import SYSTEM, Actor, Target, record_event, target_of
from keys.errors import FeatureRuleEnded, FeatureRuleInvalid, FeatureUnknown
from keys.features import FEATURES
from keys.lines import line_of
from keys.models import ApiKey, Customer, FeatureRule


@transaction.atomic
def set_feature(
    *,
    feature: str,
    is_on: bool,
    reason: str,
    owner: Customer | ApiKey | None = None,
    share_percent: int = 100,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    actor: Actor = SYSTEM,
    now: datetime | None = None,
) -> FeatureRule:
    """Switch a flag on or off from `starts_at` (default: now) until `ends_at` (None: until somebody ends it).

    Without an owner it is for a share of all customers, who stay in it for as long as it does not shrink. Of a key it
    counts for its successors too. Raises FeatureUnknown for a flag that no code declares, FeatureRuleInvalid for a
    share of one owner, a share out of 1 to 100, an end before its start or in the past, or no reason.
    """
    moment = now or datetime.now(UTC)
    start = starts_at or moment
    if feature not in FEATURES:
        raise FeatureUnknown(name=feature, known=sorted(FEATURES))
    if not reason.strip():
        raise FeatureRuleInvalid("Say why: the reason stays in the audit trail.", param="reason")
    if not 1 <= share_percent <= 100:
        raise FeatureRuleInvalid("A share lies between 1 and 100 percent.", param="share_percent")
    if owner is not None and share_percent != 100:
        raise FeatureRuleInvalid("A share is one of all customers; an owner has the flag whole.", param="share_percent")
    if ends_at is not None and ends_at <= max(start, moment):
        raise FeatureRuleInvalid("The end lies before the start, or in the past.", param="ends_at")
    rule = FeatureRule.objects.create(
        feature=feature,
        customer_id=owner.pk if isinstance(owner, Customer) else None,
        api_key_id=line_of(owner) if isinstance(owner, ApiKey) else None,
        share_percent=share_percent,
        is_on=is_on,
        starts_at=start,
        ends_at=ends_at,
        reason=reason.strip()[:200],
        created_at=moment,
        created_by=actor.name,
    )
    after = {
        "feature": feature,
        "on": is_on,
        "share_percent": share_percent,
        "starts_at": start,
        "ends_at": ends_at,
    }
    record_event(actor=actor, action="feature.set", target=_target(rule, owner), after=after, reason=reason)
    return rule


@transaction.atomic
def end_feature_rule(*, rule_id: int, reason: str, actor: Actor = SYSTEM, now: datetime | None = None) -> None:
    """End a rule now; what was before it counts from the next call on.

    Raises FeatureRuleEnded for one that is over, FeatureRuleInvalid without a reason.
    """
    if not reason.strip():
        raise FeatureRuleInvalid("Say why: the reason stays in the audit trail.", param="reason")
    moment = now or datetime.now(UTC)
    rule = FeatureRule.objects.select_for_update().get(pk=rule_id)
    if rule.ends_at is not None and rule.ends_at <= moment:
        raise FeatureRuleEnded
    before = rule.ends_at
    rule.ends_at = max(moment, rule.starts_at)
    rule.save(update_fields=["ends_at"])
    record_event(
        actor=actor,
        action="feature.ended",
        target=_target(rule, rule.customer or rule.api_key),
        before={"feature": rule.feature, "ends_at": before},
        after={"ends_at": rule.ends_at},
        reason=reason,
    )


def _target(rule: FeatureRule, owner: Customer | ApiKey | None) -> Target:
    """Return whose page shows the entry: the owner's, or the rule's own."""
    return target_of(rule if owner is None else owner)

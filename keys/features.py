"""Flags: behaviour that is switched on for some before it is for all. Each is declared here, and nowhere else.

A flag has a default. Rules (`keys.flagging`, rows of `FeatureRule`) switch it on or off from a start to an end: for one
key, for one customer, or for a share of all customers. The nearest counts: a rule of the key before one of the customer
before one of all; of several of one kind the latest. A customer stays in a share, also while the share grows.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A flag: its name for rules, what it switches on, since when it exists, and what counts without a rule."""

    name: str
    description: str
    declared_on: date
    default: bool = False


RESUMABLE_STREAMS = Feature(
    name="resumable_streams",
    description="Every stream is kept so that its caller can come back for it, without asking (`x-resumable`).",
    declared_on=date(2026, 11, 21),
)
UNIFORM_NAMES = Feature(
    name="uniform_names",
    description="The names of 2026-11-21 for cost, balance, times and keys, also for keys that are pinned to a date "
    "before it.",
    declared_on=date(2026, 11, 21),
)

FEATURES = {feature.name: feature for feature in (RESUMABLE_STREAMS, UNIFORM_NAMES)}

# The nearest first.
KEY, CUSTOMER, EVERYONE = "key", "customer", "everyone"
_ORDER = (KEY, CUSTOMER, EVERYONE)


class Rule(NamedTuple):
    """A rule as snapshots hold it: only those that are about the snapshot's key."""

    id: int
    feature: str
    # "key", "customer" or "everyone".
    owner: str
    is_on: bool
    starts_us: int
    # None: no end is set.
    ends_us: int | None


class Standing(NamedTuple):
    """How a flag stands for a key."""

    feature: Feature
    is_on: bool
    # Whose rule decided; "default": there is none.
    set_by: str
    since_us: int | None = None
    until_us: int | None = None


def is_in_share(feature: str, customer_id: int, share_percent: int) -> bool:
    """Return whether a customer is among the share; each flag draws its own customers first."""
    if share_percent >= 100:
        return True
    drawn = hashlib.blake2b(f"{feature}:{customer_id}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn) % 100 < share_percent


def decide_feature(feature: Feature, rules: Iterable[Rule], now_us: int) -> Standing:
    """Return how a flag stands at `now_us` under the rules that are about one key."""
    running = [
        rule
        for rule in rules
        if rule.feature == feature.name and rule.starts_us <= now_us and (rule.ends_us is None or now_us < rule.ends_us)
    ]
    if not running:
        return Standing(feature, feature.default, "default")
    rule = min(running, key=lambda found: (_ORDER.index(found.owner), -found.id))
    return Standing(feature, rule.is_on, rule.owner, rule.starts_us, rule.ends_us)

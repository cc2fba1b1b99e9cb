"""Who is calling: a frozen snapshot of key, customer and plan, read in one query.

The request path keeps snapshots for its early checks. Admission reads the row again inside its transaction and
compares: a snapshot that differs in anything is refused as stale, so a revocation or a new limit counts from the
next call on, on every process, without a cache to invalidate.
"""

import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from common.clock import to_us
from common.sql import Row, Sql
from keys.features import CUSTOMER, EVERYONE, FEATURES, KEY, Feature, Rule, Standing, decide_feature, is_in_share
from keys.limit_values import LIMIT_COLUMNS, LimitValues, Raise, apply_raises, limits_from
from keys.tokens import hash_token

Network = IPv4Network | IPv6Network

_KEY_COLUMNS = (
    "id",
    "secret_hmac",
    "public_id",
    "prefix",
    "name",
    "environment",
    "scopes",
    "allowed_models",
    "allowed_prompts",
    "allowed_networks",
    "expires_at",
    "revoked_at",
    "deprecated_at",
    "line_id",
    "maker_id",
    "api_version",
)
_CUSTOMER_COLUMNS = ("id", "public_id", "name", "status")
_PLAN_COLUMNS = ("id", "slug", "is_paid", "reused_price_percent")

_SELECT = (
    "SELECT "
    + ", ".join(
        [f"k.{c}" for c in _KEY_COLUMNS]
        + [f"c.{c}" for c in _CUSTOMER_COLUMNS]
        + [f"p.{c}" for c in _PLAN_COLUMNS]
        + [f"{table}.{column}" for table in "kcp" for column in LIMIT_COLUMNS]
    )
    + " FROM keys_apikey k JOIN keys_customer c ON c.id = k.customer_id JOIN keys_plan p ON p.id = c.plan_id"
)
# What a maker's row has to say about the calls of the keys that it made.
_MAKER_COLUMNS = (
    "id",
    "line_id",
    "maker_id",
    "prefix",
    "scopes",
    "allowed_models",
    "allowed_prompts",
    "allowed_networks",
    "expires_at",
    "revoked_at",
)
_SELECT_MAKERS = f"SELECT {', '.join((*_MAKER_COLUMNS, *LIMIT_COLUMNS))} FROM keys_apikey"
_SELECT_RAISES = (
    "SELECT customer_id, api_key_id, limit_name, value, starts_at, ends_at FROM keys_limitraise"
    " WHERE {owners} ORDER BY id"
)
_SELECT_RULES = (
    "SELECT id, feature, customer_id, api_key_id, share_percent, is_on, starts_at, ends_at FROM keys_featurerule"
    " WHERE {owners} OR (customer_id IS NULL AND api_key_id IS NULL) ORDER BY id"
)
_LINE_ID_AT, _MAKER_ID_AT = _KEY_COLUMNS.index("line_id"), _KEY_COLUMNS.index("maker_id")
_CUSTOMER_ID_AT = len(_KEY_COLUMNS)
_KEY_LIMITS_AT = len(_KEY_COLUMNS) + len(_CUSTOMER_COLUMNS) + len(_PLAN_COLUMNS)


class LimitOwner(NamedTuple):
    """Whose limits a call has to fit into."""

    # The row of its counters: "customer:<id>", or "key:<id of the first key of the line>".
    name: str
    # "customer", "key", or "maker" (a key that made the key).
    kind: str
    # What is set for good; `Principal.limits_at` adds what is raised for a time.
    limits: LimitValues
    # The first characters of a key; of a customer "".
    key_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A key with its customer, its plan and the keys that made it, as they were in one row.

    A key reaches no further than its makers reach now, whatever they had when they made it: what it may do, and
    until when, is worked out over all of them.
    """

    # The row itself: two snapshots are the same exactly when their rows are.
    row: Row
    key_id: int
    key_public_id: str
    key_prefix: str
    key_name: str
    environment: str
    scopes: frozenset[str]
    # The key's own lists.
    allowed_models: tuple[str, ...]
    allowed_prompts: tuple[str, ...]
    allowed_networks: tuple[Network, ...]
    # Its own and its makers', without those that admit everything: a name or an address has to be on each.
    model_lists: tuple[tuple[str, ...], ...]
    prompt_lists: tuple[tuple[str, ...], ...]
    network_lists: tuple[tuple[Network, ...], ...]
    expires_us: int | None
    # When it was rotated; it still works until it expires.
    deprecated_us: int | None
    is_revoked: bool
    customer_id: int
    customer_public_id: str
    customer_name: str
    customer_is_active: bool
    plan_id: int
    plan_slug: str
    plan_is_paid: bool
    # What an answer costs that another call had fetched, of its price; None: what its model says.
    plan_reused_percent: int | None = None
    # Customer, key, and the keys that made it, the nearest first.
    owners: tuple[LimitOwner, ...]
    owner_names: tuple[str, ...]
    limits: tuple[LimitValues, ...]
    raises: tuple[Raise, ...]
    # The date of the API that it is answered in; empty until its first call.
    api_version: str
    # Of flags, by name, as far as they are about this key; it counts what the clock says.
    features: Mapping[str, tuple[Rule, ...]]

    @property
    def customer_owner(self) -> str:
        """Return the name of the customer's counters."""
        return self.owner_names[0]

    @property
    def key_owner(self) -> str:
        """Return the name of the counters of the key's line."""
        return self.owner_names[1]

    @property
    def customer_limits(self) -> LimitValues:
        """Return what is set for the customer for good, by itself or its plan."""
        return self.limits[0]

    @property
    def key_limits(self) -> LimitValues:
        """Return what is set on the key for good."""
        return self.limits[1]

    @property
    def maker_count(self) -> int:
        """Return how many keys stand above this one."""
        return len(self.owners) - 2

    def is_active(self, now_us: int) -> bool:
        """Return whether the key may call at all at `now_us`."""
        return not self.is_revoked and self.customer_is_active and (self.expires_us is None or now_us < self.expires_us)

    def has_feature(self, feature: Feature, now_us: int) -> bool:
        """Return whether a flag is on for this key's calls at `now_us`."""
        if not self.features:
            return feature.default
        return decide_feature(feature, self.features.get(feature.name, ()), now_us).is_on

    def standings_at(self, now_us: int) -> list[Standing]:
        """Return how each flag stands for this key's calls at `now_us`."""
        return [decide_feature(feature, self.features.get(name, ()), now_us) for name, feature in FEATURES.items()]

    def may_use_model(self, name: str) -> bool:
        """Return whether the lists of models (exact names, or prefixes ending in *) admit `name`."""
        return all(any(covers(pattern, name) for pattern in listed) for listed in self.model_lists)

    def may_run_prompt(self, name: str) -> bool:
        """Return whether the lists of prompts admit `name`."""
        return all(any(covers(pattern, name) for pattern in listed) for listed in self.prompt_lists)

    def may_call_from(self, address: str | None) -> bool:
        """Return whether the key may be used from an address; an unknown one is on no list."""
        if not self.network_lists:
            return True
        if address is None:
            return False
        caller = ip_address(address)
        return all(any(caller in network for network in listed) for listed in self.network_lists)

    def limits_at(self, now_us: int) -> tuple[LimitValues, ...]:
        """Return what applies to this key's calls at `now_us`: the limits of each of `owners`, in their order.

        A call has to fit into all of them. Each value says where it comes from. Admission, pages and the API all ask
        here.
        """
        if not self.raises:
            return self.limits
        return tuple(
            apply_raises(owner.limits, [r for r in self.raises if r.owner == owner.name], now_us, owner.kind)
            for owner in self.owners
        )

    def max_input_tokens_at(self, now_us: int) -> int | None:
        """Return the smallest cap on the input of one call of all owners."""
        caps = [c.max_input_tokens for c in self.limits_at(now_us) if c.max_input_tokens is not None]
        return min(caps) if caps else None


def covers(pattern: str, name: str) -> bool:
    """Return whether a list's entry (an exact name, or a prefix ending in *) admits `name`."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def hashes_of(token: str, peppers: Iterable[str]) -> tuple[str, ...]:
    """Return the stored forms that `token` may have: one for each accepted pepper, newest first."""
    return tuple(hash_token(token, pepper) for pepper in peppers)


def holds_key(principal: Principal, hashes: Iterable[str]) -> bool:
    """Return whether the principal's stored hash is one of `hashes`, compared in constant time.

    The index found it already; a collation that ignores case, or a row changed by hand, would find more.
    """
    stored = str(principal.row[1])
    return any(hmac.compare_digest(stored, candidate) for candidate in hashes)


def read_principals_by_hash(sql: Sql, hashes: Iterable[str]) -> dict[str, Principal]:
    """Return the principals of the given hashes; unknown ones are absent, inactive ones are returned as they are."""
    rows = sql.rows_where_in(_SELECT, "k.secret_hmac", hashes)
    return {row[1]: _principal(row) for row in _complete(sql, rows)}


def read_rows_by_key_id(sql: Sql, key_ids: Iterable[int]) -> dict[int, Row]:
    """Return the rows of keys, to be compared with `Principal.row` (cheaper than building principals)."""
    return {row[0]: row for row in _complete(sql, sql.rows_where_in(_SELECT, "k.id", key_ids))}


def principal_of_row(row: Row) -> Principal:
    """Return the principal that a row of `read_rows_by_key_id` describes."""
    return _principal(row)


def _complete(sql: Sql, rows: list[Row]) -> list[Row]:
    """Return the rows with three more values: the rows of the keys above, the raises of all owners, rules of flags."""
    if not rows:
        return []
    above = _read_makers(sql, {row[_MAKER_ID_AT] for row in rows} - {None})
    chains = [tuple(_chain(above, row[_MAKER_ID_AT])) for row in rows]
    lines = [
        {row[_LINE_ID_AT] or row[0], *(maker[1] or maker[0] for maker in chain)}
        for row, chain in zip(rows, chains, strict=True)
    ]
    of_customers, customer_ids = sql.condition_in("customer_id", {row[_CUSTOMER_ID_AT] for row in rows})
    of_keys, key_ids = sql.condition_in("api_key_id", set().union(*lines))
    raises: dict[str, list[Raise]] = {}
    for customer_id, line_id, column, value, start, end in sql.rows(
        _SELECT_RAISES.format(owners=f"{of_customers} OR {of_keys}"), customer_ids + key_ids
    ):
        owner = key_counters(line_id) if customer_id is None else customer_counters(customer_id)
        raises.setdefault(owner, []).append(Raise(owner, column, value, to_us(start), to_us(end)))
    own_lines = [row[_LINE_ID_AT] or row[0] for row in rows]
    rules = sql.rows(_SELECT_RULES.format(owners=f"{of_customers} OR {of_keys}"), customer_ids + key_ids)
    return [
        (
            *row,
            chain,
            tuple(
                raised
                for owner in (customer_counters(row[_CUSTOMER_ID_AT]), *map(key_counters, sorted(all_lines)))
                for raised in raises.get(owner, ())
            ),
            tuple(_rules_of(rules, row[_CUSTOMER_ID_AT], own_line)),
        )
        for row, chain, all_lines, own_line in zip(rows, chains, lines, own_lines, strict=True)
    ]


def _rules_of(rules: Iterable[Row], customer_id: int, line_id: int) -> Iterator[Rule]:
    """Return the rules of flags that are about one key; those of the keys that made it are not."""
    for rule_id, feature, of_customer, of_line, share_percent, is_on, start, end in rules:
        if of_line is not None:
            owner = KEY if of_line == line_id else None
        elif of_customer is not None:
            owner = CUSTOMER if of_customer == customer_id else None
        else:
            owner = EVERYONE if is_in_share(feature, customer_id, share_percent) else None
        if owner is not None:
            yield Rule(rule_id, feature, owner, bool(is_on), to_us(start), None if end is None else to_us(end))


def _read_makers(sql: Sql, key_ids: set[int]) -> dict[int, Row]:
    """Return the rows of these keys and of all that stand above them, a query a level."""
    found: dict[int, Row] = {}
    while key_ids:
        rows = sql.rows_where_in(_SELECT_MAKERS, "id", key_ids)
        found.update((row[0], row) for row in rows)
        key_ids = {row[2] for row in rows} - {None} - found.keys()
    return found


def _chain(makers: Mapping[int, Row], key_id: int | None) -> Iterator[Row]:
    while key_id is not None:
        yield makers[key_id]
        key_id = makers[key_id][2]


def _principal(row: Row) -> Principal:
    key = dict(zip(_KEY_COLUMNS, row, strict=False))
    customer_id, customer_public_id, customer_name, status, plan_id, plan_slug, plan_is_paid, reused_percent = row[
        len(_KEY_COLUMNS) : _KEY_LIMITS_AT
    ]
    count = len(LIMIT_COLUMNS)
    key_values, customer_values, plan_values = (
        dict(zip(LIMIT_COLUMNS, row[start : start + count], strict=True))
        for start in range(_KEY_LIMITS_AT, _KEY_LIMITS_AT + 3 * count, count)
    )
    makers = [dict(zip((*_MAKER_COLUMNS, *LIMIT_COLUMNS), maker, strict=True)) for maker in row[-3]]
    owners = (
        LimitOwner(customer_counters(customer_id), "customer", merge_customer_limits(customer_values, plan_values)),
        _key_owner(key, key_values, "key"),
        *(_key_owner(maker, {c: maker[c] for c in LIMIT_COLUMNS}, "maker") for maker in makers),
    )
    chain = [key, *makers]
    ends = [to_us(each["expires_at"]) for each in chain if each["expires_at"] is not None]
    networks = [tuple(ip_network(network) for network in _json(each["allowed_networks"])) for each in chain]
    return Principal(
        row=row,
        key_id=key["id"],
        key_public_id=key["public_id"],
        key_prefix=key["prefix"],
        key_name=key["name"],
        environment=key["environment"],
        scopes=frozenset.intersection(*(frozenset(_json(each["scopes"])) for each in chain)),
        allowed_models=tuple(_json(key["allowed_models"])),
        allowed_prompts=tuple(_json(key["allowed_prompts"])),
        allowed_networks=networks[0],
        model_lists=tuple(tuple(listed) for each in chain if (listed := _json(each["allowed_models"]))),
        prompt_lists=tuple(tuple(listed) for each in chain if (listed := _json(each["allowed_prompts"]))),
        network_lists=tuple(filter(None, networks)),
        expires_us=min(ends) if ends else None,
        deprecated_us=None if key["deprecated_at"] is None else to_us(key["deprecated_at"]),
        is_revoked=any(each["revoked_at"] is not None for each in chain),
        customer_id=customer_id,
        customer_public_id=customer_public_id,
        customer_name=customer_name,
        customer_is_active=status == "active",
        plan_id=plan_id,
        plan_slug=plan_slug,
        plan_is_paid=bool(plan_is_paid),
        plan_reused_percent=reused_percent,
        owners=owners,
        owner_names=tuple(owner.name for owner in owners),
        limits=tuple(owner.limits for owner in owners),
        raises=row[-2],
        api_version=key["api_version"],
        features=_by_feature(row[-1]),
    )


def _by_feature(rules: Iterable[Rule]) -> Mapping[str, tuple[Rule, ...]]:
    found: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        found[rule.feature] = (*found.get(rule.feature, ()), rule)
    return found


def _key_owner(key: Mapping[str, Any], values: Mapping[str, int | None], kind: str) -> LimitOwner:
    sources = {column: kind for column, value in values.items() if value is not None}
    return LimitOwner(key_counters(key["line_id"] or key["id"]), kind, limits_from(values, sources), key["prefix"])


def customer_counters(customer_id: int) -> str:
    """Return the name of a customer's counters."""
    return f"customer:{customer_id}"


def key_counters(line_id: int) -> str:
    """Return the name of the counters of a line of keys, known by its first."""
    return f"key:{line_id}"


def merge_customer_limits(customer: dict[str, int | None], plan: dict[str, int | None]) -> LimitValues:
    """Return what applies to a customer: its own value where it has one, else its plan's."""
    merged = {c: customer[c] if customer[c] is not None else plan[c] for c in LIMIT_COLUMNS}
    sources = {c: "customer" if customer[c] is not None else "plan" for c in LIMIT_COLUMNS if merged[c] is not None}
    return limits_from(merged, sources)


def _json(value: Any) -> list[str]:
    parsed: list[str] = json.loads(value) if isinstance(value, str) else value
    return parsed

"""Who is calling: a frozen snapshot of key, customer and plan, read in one query.

The request path keeps snapshots for its early checks. Admission reads the row again inside its transaction and
compares: a snapshot that differs in anything is refused as stale, so a revocation or a new limit counts from the
next call on, on every process, without a cache to invalidate.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.clock import to_us
from common.sql import Row, Sql
from keys.limits import LIMIT_COLUMNS, LimitValues
from keys.tokens import hash_token

_KEY_COLUMNS = (
    "id",
    "secret_hmac",
    "public_id",
    "prefix",
    "name",
    "environment",
    "scopes",
    "allowed_models",
    "expires_at",
    "revoked_at",
)
_CUSTOMER_COLUMNS = ("id", "public_id", "name", "status")
_PLAN_COLUMNS = ("slug",)

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
_KEY_LIMITS_AT = len(_KEY_COLUMNS) + len(_CUSTOMER_COLUMNS) + len(_PLAN_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A key with its customer and plan, as they were in one row."""

    # The row itself: two snapshots are the same exactly when their rows are.
    row: Row
    key_id: int
    key_public_id: str
    key_prefix: str
    key_name: str
    environment: str
    scopes: frozenset[str]
    allowed_models: tuple[str, ...]
    expires_us: int | None
    is_revoked: bool
    customer_id: int
    customer_public_id: str
    customer_name: str
    customer_is_active: bool
    plan_slug: str
    key_limits: LimitValues
    customer_limits: LimitValues
    # "customer:<id>" and "key:<id>": the rows of their counters.
    customer_owner: str
    key_owner: str

    def is_active(self, now_us: int) -> bool:
        """Return whether the key may call at all at `now_us`."""
        return not self.is_revoked and self.customer_is_active and (self.expires_us is None or now_us < self.expires_us)

    def may_use_model(self, name: str) -> bool:
        """Return whether the key's list of models (exact names, or prefixes ending in *) admits `name`."""
        return not self.allowed_models or any(
            name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
            for pattern in self.allowed_models
        )

    @property
    def max_input_tokens(self) -> int | None:
        """Return the smaller of the key's and the customer's cap on the input of one call."""
        caps = [c for c in (self.key_limits.max_input_tokens, self.customer_limits.max_input_tokens) if c is not None]
        return min(caps) if caps else None


def hashes_of(token: str, peppers: Iterable[str]) -> tuple[str, ...]:
    """Return the stored forms that `token` may have: one for each accepted pepper, newest first."""
    return tuple(hash_token(token, pepper) for pepper in peppers)


def read_principals_by_hash(sql: Sql, hashes: Iterable[str]) -> dict[str, Principal]:
    """Return the principals of the given hashes; unknown ones are absent, inactive ones are returned as they are."""
    return {row[1]: _principal(row) for row in sql.rows_where_in(_SELECT, "k.secret_hmac", hashes)}


def read_rows_by_key_id(sql: Sql, key_ids: Iterable[int]) -> dict[int, Row]:
    """Return the rows of keys, to be compared with `Principal.row` (cheaper than building principals)."""
    return {row[0]: row for row in sql.rows_where_in(_SELECT, "k.id", key_ids)}


def principal_of_row(row: Row) -> Principal:
    """Return the principal that a row of `read_rows_by_key_id` describes."""
    return _principal(row)


def _principal(row: Row) -> Principal:
    (
        key_id,
        _,
        key_public_id,
        prefix,
        key_name,
        environment,
        scopes,
        allowed_models,
        expires_at,
        revoked_at,
    ) = row[: len(_KEY_COLUMNS)]
    customer_id, customer_public_id, customer_name, status, plan_slug = row[len(_KEY_COLUMNS) : _KEY_LIMITS_AT]
    count = len(LIMIT_COLUMNS)
    key_values, customer_values, plan_values = (
        dict(zip(LIMIT_COLUMNS, row[start : start + count], strict=True))
        for start in range(_KEY_LIMITS_AT, _KEY_LIMITS_AT + 3 * count, count)
    )
    return Principal(
        row=row,
        key_id=key_id,
        key_public_id=key_public_id,
        key_prefix=prefix,
        key_name=key_name,
        environment=environment,
        scopes=frozenset(_json(scopes)),
        allowed_models=tuple(_json(allowed_models)),
        expires_us=_moment_us(expires_at),
        is_revoked=revoked_at is not None,
        customer_id=customer_id,
        customer_public_id=customer_public_id,
        customer_name=customer_name,
        customer_is_active=status == "active",
        plan_slug=plan_slug,
        key_limits=LimitValues(**key_values, sources={c: "key" for c in LIMIT_COLUMNS if key_values[c] is not None}),
        customer_limits=merge_customer_limits(customer_values, plan_values),
        customer_owner=f"customer:{customer_id}",
        key_owner=f"key:{key_id}",
    )


def merge_customer_limits(customer: dict[str, int | None], plan: dict[str, int | None]) -> LimitValues:
    """Return what applies to a customer: its own value where it has one, else its plan's."""
    merged = {c: customer[c] if customer[c] is not None else plan[c] for c in LIMIT_COLUMNS}
    sources = {c: "customer" if customer[c] is not None else "plan" for c in LIMIT_COLUMNS if merged[c] is not None}
    return LimitValues(**merged, sources=sources)


def _json(value: Any) -> list[str]:
    parsed: list[str] = json.loads(value) if isinstance(value, str) else value
    return parsed


def _moment_us(value: datetime | None) -> int | None:
    return None if value is None else to_us(value)

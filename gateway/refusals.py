"""Why calls were refused, kept for whoever asks later, without letting a flood of refusals write without bound.

Of each key the first refusals of a minute are kept whole; the others are counted, exactly. Rows are written in the
transaction that refused, inside a savepoint of their own: whatever fails here, the answer stands and its batch too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from common.errors import TollkeeperError
from common.money import format_usd
from common.sql import Sql
from keys.limits import LimitReading

KEPT_A_MINUTE = 20
KEPT_DAYS = 30
_MINUTE_US = 60_000_000
_KEPT_US = KEPT_DAYS * 86_400_000_000
_PRUNE_LIMIT = 500
_COLUMNS = (
    "request_id",
    "created_us",
    "customer_id",
    "api_key_id",
    "operation",
    "model",
    "code",
    "status",
    "message",
    "retry_after_seconds",
    "details",
    "checked",
)
_INSERT = (
    f"INSERT INTO gateway_refusal ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    " ON CONFLICT (request_id) DO NOTHING"
)
_COUNT = (
    "INSERT INTO gateway_refusalcount (api_key_id, minute, refused) VALUES (%s, %s, %s)"
    " ON CONFLICT (api_key_id, minute) DO UPDATE SET refused = gateway_refusalcount.refused + excluded.refused"
    " RETURNING refused"
)


class NewRefusal(NamedTuple):
    """A call that was refused; `checked` is every limit that was looked at, as it stood."""

    request_id: str
    customer_id: int
    api_key_id: int
    operation: str
    model: str
    error: TollkeeperError
    checked: tuple[LimitReading, ...] = ()


def write_refusals(sql: Sql, refusals: Sequence[NewRefusal], *, now_us: int) -> None:
    """Keep the refusals, as many as there is room for, and count all. Never raises for what goes wrong with them."""
    if not refusals:
        return
    with sql.sparing(f"{len(refusals)} refusals"):
        _write(sql, refusals, now_us)


def prune_refusals(sql: Sql, *, now_us: int) -> None:
    """Remove some of what is older than `KEPT_DAYS`."""
    oldest_us = now_us - _KEPT_US
    sql.run(
        "DELETE FROM gateway_refusal WHERE id IN (SELECT id FROM gateway_refusal WHERE created_us <= %s"
        f" ORDER BY created_us LIMIT {_PRUNE_LIMIT})",
        (oldest_us,),
    )
    sql.run(
        "DELETE FROM gateway_refusalcount WHERE id IN (SELECT id FROM gateway_refusalcount WHERE minute <= %s"
        f" ORDER BY minute LIMIT {_PRUNE_LIMIT})",
        (oldest_us // _MINUTE_US,),
    )


def _write(sql: Sql, refusals: Sequence[NewRefusal], now_us: int) -> None:
    by_key: dict[int, list[NewRefusal]] = {}
    for refusal in refusals:
        by_key.setdefault(refusal.api_key_id, []).append(refusal)
    # A key may have been deleted since: its foreign key would fail the whole batch at its commit.
    known = {key_id for (key_id,) in sql.rows_where_in("SELECT id FROM keys_apikey", "id", list(by_key))}
    # In the order of keys: two batches that count the same keys must not wait for each other.
    for key_id in sorted(known):
        found = by_key[key_id]
        ((refused,),) = sql.rows(_COUNT, (key_id, now_us // _MINUTE_US, len(found)))
        room = KEPT_A_MINUTE - (refused - len(found))
        for refusal in found[: max(0, room)]:
            sql.run(_INSERT, _row(refusal, now_us))


def _row(refusal: NewRefusal, now_us: int) -> tuple[object, ...]:
    error = refusal.error
    return (
        refusal.request_id,
        now_us,
        refusal.customer_id,
        refusal.api_key_id,
        refusal.operation,
        # PostgreSQL stores no zero byte; a name that no model has may be anything.
        refusal.model[:120].replace("\x00", ""),
        error.code,
        error.status,
        error.message[:2_000].replace("\x00", ""),
        error.retry_after_seconds,
        orjson.dumps(error.details).decode().replace("\\u0000", ""),
        orjson.dumps([_reading(reading) for reading in refusal.checked]).decode(),
    )


def _reading(reading: LimitReading) -> dict[str, object]:
    def shown(value: int) -> str:
        return format_usd(value) if reading.kind.is_money else str(value)

    return {
        "limit_name": reading.kind.value,
        "owner": reading.owner,
        "set_by": reading.source,
        "limit": shown(reading.limit),
        "at_once": shown(reading.at_once),
        "remaining": shown(reading.remaining),
        "resets_in_seconds": reading.reset_seconds,
    }

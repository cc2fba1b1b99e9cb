"""The ledger's rows inside admission's transaction: accounts, holds, transfers and usage, in bulk.

Nothing here decides; `gateway.admission` does, under the locks taken here. Values that are made for every call are
named tuples: one of ten fields is made in 0.7 us, a frozen dataclass in 2.2.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from billing.accounts import REVENUE_CODE, customer_account_code
from billing.models import REUSED_STATES, TransferKind, UsageStatus
from billing.rates import Processing
from billing.tokens import NO_TOKENS, TOKEN_CLASSES, TokenCounts
from common.sql import Sql


@dataclass(slots=True, kw_only=True)
class AccountState:
    """A customer's account inside one transaction. Mutable: a batch moves it call by call, and writes it once."""

    id: int
    customer_id: int
    posted_nanousd: int
    held_nanousd: int
    # How far the wallet may be spent below zero.
    credit_nanousd: int = 0
    # When the next grant begins or expires, if there is any.
    grants_due_us: int | None = None

    @property
    def available_nanousd(self) -> int:
        return self.posted_nanousd + self.credit_nanousd - self.held_nanousd


class OpenHold(NamedTuple):
    """A row of `billing.Hold`."""

    request_id: str
    account_id: int
    amount_nanousd: int
    worker_id: int
    # The limit counters that the call took, comma separated.
    owners: str
    input_tokens: int
    output_tokens: int
    day: int
    month: int
    progress_tokens: int
    # JSON of what is known about the call at admission, for a hold that outlives its process.
    draft: str
    created_us: int
    expires_us: int
    # Null for a call that can cost nothing; known once its transfer is written.
    pending_id: int | None = None


class NewTransfer(NamedTuple):
    """A transfer to be written; the moment is the batch's."""

    id: int
    kind: TransferKind
    account_id: int
    amount_nanousd: int
    request_id: str
    pending_id: int | None = None
    reason: str = ""


_REUSED = frozenset(state.value for state in REUSED_STATES)


class NewUsage(NamedTuple):
    """What a call knows of its usage record; columns as in `billing.UsageRecord`."""

    request_id: str
    customer_id: int
    api_key_id: int
    operation: str
    model: str
    price_version_id: int
    status: str
    source: str
    is_stream: bool
    # When the call was admitted, in microseconds since the epoch.
    started_us: int
    # The terms whose markup is in the cost, if any.
    price_terms_id: int | None = None
    processing: str = Processing.STANDARD.value
    upstream: str = ""
    upstream_model: str = ""
    error_code: str = ""
    finish_reason: str = ""
    tokens: TokenCounts = NO_TOKENS
    cost_nanousd: int = 0
    provider_cost_nanousd: int = 0
    flags: str = ""
    end_user: str = ""
    # JSON object.
    tags: str = "{}"
    upstream_ms: int = 0
    ttft_ms: int | None = None
    total_ms: int = 0
    overhead_us: int = 0
    # Name and number, empty for a call without a prompt.
    prompt: str = ""
    prompt_version: str = ""
    # The label that was followed, empty where the caller pinned a number.
    prompt_label: str = ""
    # Packed by `billing.attempts`, where the model was asked several times.
    attempts: str = ""
    # What the response cache did (`billing.CacheState`), and of a reused answer: which part of its price is charged,
    # its size, and what the provider would have charged once more.
    cache: str = ""
    reused_percent: int = 0
    reused_bytes: int = 0
    saved_nanousd: int = 0

    @property
    def is_reused(self) -> bool:
        """Return whether another call had fetched the answer: it took nothing from a provider, and from no rate."""
        return self.cache in _REUSED


class BookedUsage(NamedTuple):
    """A usage record with what its settlement decided."""

    usage: NewUsage
    charged_nanousd: int
    sequence: int = 0
    # Found at settlement, added to the record's own flags.
    flag: str = ""


_HOLD_COLUMNS = tuple(n for n in OpenHold._fields if n != "pending_id")
_ALL_HOLD_COLUMNS = ", ".join((*_HOLD_COLUMNS, "pending_id"))
_SELECT_HOLDS = f"SELECT {_ALL_HOLD_COLUMNS} FROM billing_hold"
_hold_row = attrgetter(*_HOLD_COLUMNS)
_TRANSFER_COLUMNS = (
    "id",
    "kind",
    "debit_account_id",
    "credit_account_id",
    "amount_nanousd",
    "pending_id",
    "request_id",
    "reason",
    "author",
    "created_at",
)
_USAGE_FIELDS = tuple(n for n in NewUsage._fields if n not in ("tokens", "flags", "started_us"))
_USAGE_COLUMNS = (
    *_USAGE_FIELDS,
    *(f"{c}_tokens" for c in TOKEN_CLASSES),
    "flags",
    "sequence",
    "charged_nanousd",
    "started_at",
    "settled_at",
)
_usage_row = attrgetter(*_USAGE_FIELDS, *(f"tokens.{c}" for c in TOKEN_CLASSES))


def lock_accounts(sql: Sql, customer_ids: Collection[int]) -> dict[int, AccountState]:
    """Lock the accounts of customers in the order of their ids and return them by customer id.

    Accounts that do not exist yet are opened. First of the locks of a batch: whoever changes a hold, a balance or
    a limit counter of a customer holds this one.
    """
    found = _select_accounts(sql, customer_ids)
    missing = sorted(set(customer_ids) - found.keys())
    if missing:
        for customer_id in missing:
            sql.run(
                "INSERT INTO billing_account (code, kind, customer_id, posted_nanousd, held_nanousd)"
                " VALUES (%s, 'customer', %s, 0, 0) ON CONFLICT (code) DO NOTHING",
                (customer_account_code(customer_id), customer_id),
            )
        found = _select_accounts(sql, customer_ids)
    return found


def _select_accounts(sql: Sql, customer_ids: Collection[int]) -> dict[int, AccountState]:
    rows = sql.rows_where_in(
        "SELECT id, customer_id, posted_nanousd, held_nanousd, credit_nanousd, grants_due_us FROM billing_account",
        "customer_id",
        customer_ids,
        f"ORDER BY id {sql.for_update}",
    )
    return {
        row[1]: AccountState(
            id=row[0],
            customer_id=row[1],
            posted_nanousd=row[2],
            held_nanousd=row[3],
            credit_nanousd=row[4],
            grants_due_us=row[5],
        )
        for row in rows
    }


def find_customers_with_due_grants(sql: Sql, *, now_us: int, limit: int) -> list[int]:
    """Return up to `limit` customers with grants that have begun or expired and wallets that do not know it yet."""
    rows = sql.rows(
        f"SELECT customer_id FROM billing_account WHERE grants_due_us <= %s ORDER BY grants_due_us, id LIMIT {limit}",
        (now_us,),
    )
    return [row[0] for row in rows]


def write_accounts(sql: Sql, changed: Iterable[AccountState]) -> None:
    """Write the balances that a batch changed."""
    sql.update_integers(
        "billing_account",
        "id",
        ("posted_nanousd", "held_nanousd"),
        [(a.posted_nanousd, a.held_nanousd, a.id) for a in changed],
    )


def find_revenue_account(sql: Sql) -> int:
    """Return the id of the platform's revenue account, opening it at its first use."""
    rows = sql.rows("SELECT id FROM billing_account WHERE code = %s", (REVENUE_CODE,))
    if not rows:
        sql.run(
            "INSERT INTO billing_account (code, kind, posted_nanousd, held_nanousd) VALUES (%s, 'revenue', 0, 0)"
            " ON CONFLICT (code) DO NOTHING",
            (REVENUE_CODE,),
        )
        rows = sql.rows("SELECT id FROM billing_account WHERE code = %s", (REVENUE_CODE,))
    return int(rows[0][0])


def read_holds(sql: Sql, request_ids: Collection[str]) -> dict[str, OpenHold]:
    """Return the open holds among `request_ids`; a resolved one is absent."""
    if not request_ids:
        return {}
    return {hold.request_id: hold for hold in _holds(sql.rows_where_in(_SELECT_HOLDS, "request_id", request_ids))}


def find_due_holds(sql: Sql, *, now_us: int, dead_worker_ids: Collection[int], limit: int) -> list[OpenHold]:
    """Return up to `limit` open holds whose time or whose process has run out, oldest first."""
    condition, parameters = "expires_us <= %s", [now_us]
    statement = f"{_SELECT_HOLDS} WHERE {condition}"
    if dead_worker_ids:
        dead, dead_parameters = sql.condition_in("worker_id", dead_worker_ids)
        statement = f"{statement} OR {dead}"
        parameters = [*parameters, *dead_parameters]  # type: ignore[list-item]
    return _holds(sql.rows(f"{statement} ORDER BY created_us, request_id LIMIT {limit}", parameters))


def open_holds(sql: Sql, holds: Sequence[OpenHold], pending_ids: Mapping[str, int]) -> None:
    """Insert holds with the PENDING transfers of their request ids (which must be in)."""
    sql.insert(
        "billing_hold",
        (*_HOLD_COLUMNS, "pending_id"),
        [(*_hold_row(hold), pending_ids.get(hold.request_id)) for hold in holds],
    )


def take_holds(sql: Sql, request_ids: Collection[str]) -> dict[str, OpenHold]:
    """Delete and return the open holds among `request_ids`; one that was resolved before is absent.

    Whoever takes a hold resolves it in the same transaction: this is what makes a resolution happen once.
    """
    if not request_ids:
        return {}
    condition, parameters = sql.condition_in("request_id", request_ids)
    rows = sql.rows(f"DELETE FROM billing_hold WHERE {condition} RETURNING {_ALL_HOLD_COLUMNS}", parameters)
    return {hold.request_id: hold for hold in _holds(rows)}


def write_progress(sql: Sql, progress: Iterable[tuple[str, int]]) -> None:
    """Note how many output tokens open calls have relayed, for the case that their process dies."""
    sql.update_integers(
        "billing_hold",
        "request_id",
        ("progress_tokens",),
        [(tokens, request_id) for request_id, tokens in progress],
    )


def append_transfers(sql: Sql, transfers: Sequence[NewTransfer], *, revenue_id: int, now_us: int) -> None:
    """Insert transfers from customers' accounts to revenue."""
    moment = sql.moment(now_us)
    sql.insert(
        "billing_transfer",
        _TRANSFER_COLUMNS,
        [
            (
                t.id,
                t.kind.value,
                t.account_id,
                revenue_id,
                t.amount_nanousd,
                t.pending_id,
                t.request_id,
                t.reason,
                "",
                moment,
            )
            for t in transfers
        ],
    )


def append_usage(sql: Sql, records: Sequence[BookedUsage], *, now_us: int) -> None:
    """Insert usage records, settled now."""
    settled_at = sql.moment(now_us)
    sql.insert(
        "billing_usagerecord",
        _USAGE_COLUMNS,
        [
            (
                *_usage_row(r.usage),
                f"{r.usage.flags},{r.flag}".strip(",") if r.flag else r.usage.flags,
                r.sequence,
                r.charged_nanousd,
                sql.moment(r.usage.started_us),
                settled_at,
            )
            for r in records
        ],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierUsage:
    """What is known of a request whose hold is gone. A record of a lost call is not a settlement."""

    was_settled: bool
    charged_nanousd: int
    # What was held for it; 0 when nothing was.
    held_nanousd: int
    # Its hold has expired, and a record tells.
    was_lost: bool = False


def read_earlier_usage(sql: Sql, request_id: str, unwritten: Iterable[BookedUsage]) -> EarlierUsage:
    """Return what is recorded of a request, also in the `unwritten` records of this transaction."""
    recorded = [
        *sql.rows(
            "SELECT status, sequence, charged_nanousd FROM billing_usagerecord WHERE request_id = %s", (request_id,)
        ),
        *((b.usage.status, b.sequence, b.charged_nanousd) for b in unwritten if b.usage.request_id == request_id),
    ]
    held = sql.rows(
        "SELECT amount_nanousd FROM billing_transfer WHERE request_id = %s AND kind = 'pending'", (request_id,)
    )
    return EarlierUsage(
        was_settled=any(status != UsageStatus.LOST.value or sequence > 0 for status, sequence, _ in recorded),
        charged_nanousd=sum(charged for _, _, charged in recorded),
        held_nanousd=held[0][0] if held else 0,
        was_lost=any(status == UsageStatus.LOST.value for status, _, _ in recorded),
    )


def _holds(rows: Iterable[tuple[object, ...]]) -> list[OpenHold]:
    return [OpenHold._make(row) for row in rows]

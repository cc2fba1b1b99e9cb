"""Reading and writing the counters of limits: inside admission's transaction, and to show them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from common.sql import Sql
from keys import limits as limit_rules
from keys.limit_values import EndpointClass, LimitKind, LimitValues, counter_name
from keys.limits import COUNTER_COLUMNS, Counters, roll_forward
from keys.principals import LimitOwner, Principal

_TABLE = "keys_limitstate"
_SELECT = f"SELECT {', '.join(COUNTER_COLUMNS)} FROM {_TABLE}"
_NEW_ROW = ", ".join(["%s", "%s"] + ["0"] * (len(COUNTER_COLUMNS) - 2))
_as_row = attrgetter(*COUNTER_COLUMNS[1:], "owner")


def lock_counters(sql: Sql, owners: Collection[str], now_us: int) -> dict[str, Counters]:
    """Lock and return the counters of `owners`, creating rows that do not exist yet.

    Rows are locked in the order of their names, after the accounts: every batch of every process takes its locks
    in the same order, so two batches cannot wait for each other.
    """
    found = _select(sql, owners)
    missing = [owner for owner in owners if owner not in found]
    if missing:
        # Another process may be creating the same rows: whoever comes second finds them.
        for owner in sorted(missing):
            sql.run(
                f"INSERT INTO {_TABLE} ({', '.join(COUNTER_COLUMNS)}) VALUES ({_NEW_ROW})"
                " ON CONFLICT (owner) DO NOTHING",
                (owner, now_us),
            )
        found = _select(sql, owners)
    return found


def write_counters(sql: Sql, changed: Iterable[Counters]) -> None:
    """Write the counters that a batch changed."""
    sql.update_integers(_TABLE, "owner", COUNTER_COLUMNS[1:], [_as_row(c) for c in changed])


def counter_names(principal: Principal, endpoint_class: str) -> tuple[str, ...]:
    """Return the rows that a call of this class counts in: those of its owners, then those of its rates if apart."""
    names = principal.owner_names
    if endpoint_class == EndpointClass.CHAT:
        return names
    return (*names, *(counter_name(name, endpoint_class) for name in names))


def write_owners(principal: Principal, endpoint_class: str) -> str:
    """Return what a hold remembers of the counters that its call took: "customer:1,key:2", with ";embeddings"."""
    names = ",".join(principal.owner_names)
    return names if endpoint_class == EndpointClass.CHAT else f"{names};{endpoint_class}"


def counters_of_hold(owners: str) -> tuple[list[str], list[str]]:
    """Return the rows of places and budgets, and those of rates (for chat the same), that `write_owners` wrote."""
    joined, _, endpoint_class = owners.partition(";")
    names = joined.split(",")
    return names, [counter_name(name, endpoint_class) for name in names] if endpoint_class else names


def _select(sql: Sql, owners: Collection[str]) -> dict[str, Counters]:
    rows = sql.rows_where_in(_SELECT, "owner", owners, f"ORDER BY owner {sql.for_update}")
    return {row[0]: Counters(**dict(zip(COUNTER_COLUMNS, row, strict=True))) for row in rows}


def read_counters(sql: Sql, owners: Collection[str], now_us: int) -> dict[str, Counters]:
    """Return the counters of `owners` without locking or writing anything; those without a row are empty."""
    rows = sql.rows_where_in(_SELECT, "owner", owners)
    found = {row[0]: Counters(**dict(zip(COUNTER_COLUMNS, row, strict=True))) for row in rows}
    return {owner: found.get(owner) or Counters(owner=owner, updated_us=now_us) for owner in owners}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """A limit in force, where it comes from, and what is used of it now. Money is in nano-USD."""

    kind: LimitKind
    # None: over all classes together.
    endpoint_class: EndpointClass | None
    column: str
    # "customer", "key", or "maker": a key that made the key, named by `owner_key`.
    owner: str
    # Who set it: "plan", "customer", "key" or "maker".
    source: str
    # The first characters of the key or maker; of a customer "".
    owner_key: str
    limit: int
    used: int
    # What a full bucket holds at once; of everything else the limit itself.
    at_once: int
    # None: it does not reset by itself.
    resets_in_seconds: int | None = None
    raised_until_us: int | None = None

    @property
    def is_money(self) -> bool:
        """Return whether the numbers are nano-USD."""
        return self.kind.is_money

    @property
    def remaining(self) -> int:
        """Return what may still be used now."""
        return max(0, self.at_once - self.used)


def read_limits(sql: Sql, principal: Principal, now_us: int) -> list[LimitStatus]:
    """Return the limits of a principal as they stand at `now_us`, without locking or writing anything."""
    return [
        status
        for owner, limits in zip(principal.owners, principal.limits_at(now_us), strict=True)
        for status in read_owner_limits(sql, owner, limits, now_us)
    ]


def read_owner_limits(sql: Sql, owner: LimitOwner, limits: LimitValues, now_us: int) -> list[LimitStatus]:
    """Return the limits of one owner as they stand at `now_us`, without locking or writing anything."""
    names = [counter_name(owner.name, endpoint_class) for endpoint_class in EndpointClass]
    rows = sql.rows_where_in(_SELECT, "owner", names)
    found = {row[0]: Counters(**dict(zip(COUNTER_COLUMNS, row, strict=True))) for row in rows}
    return list(_statuses(owner, found, limits, now_us))


def _statuses(owner: LimitOwner, found: dict[str, Counters], limits: LimitValues, now_us: int) -> Iterator[LimitStatus]:
    for endpoint_class in EndpointClass:
        name = counter_name(owner.name, endpoint_class)
        counters = found.setdefault(name, Counters(owner=name, updated_us=now_us))
        roll_forward(counters, limits, now_us, endpoint_class)
        for rate in limits.rates[endpoint_class]:
            yield _status(
                owner,
                limits,
                rate.kind,
                rate.column,
                endpoint_class=endpoint_class,
                used=limit_rules.rate_used(rate, counters),
                at_once=rate.at_once,
                resets_in_seconds=limit_rules.rate_resets_in(rate, counters),
            )
    main = found[owner.name]
    if limits.concurrency is not None:
        yield _status(owner, limits, LimitKind.CONCURRENCY, "concurrency", used=main.in_flight)
    if limits.max_input_tokens is not None:
        yield _status(owner, limits, LimitKind.INPUT_SIZE, "max_input_tokens", used=0)
    for budget in limits.budgets:
        used, resets = limit_rules.budget_used(budget, main), limit_rules.budget_resets_in(budget.kind, main, now_us)
        yield _status(owner, limits, budget.kind, budget.column, used=used, resets_in_seconds=resets)


def _status(
    owner: LimitOwner,
    limits: LimitValues,
    kind: LimitKind,
    column: str,
    *,
    used: int,
    endpoint_class: EndpointClass | None = None,
    at_once: int | None = None,
    resets_in_seconds: int | None = None,
) -> LimitStatus:
    limit = getattr(limits, column)
    return LimitStatus(
        kind=kind,
        endpoint_class=endpoint_class,
        column=column,
        owner=owner.kind,
        source=limits.sources.get(column, owner.kind),
        owner_key=owner.key_prefix,
        limit=limit,
        used=used,
        at_once=limit if at_once is None else at_once,
        resets_in_seconds=resets_in_seconds,
        raised_until_us=limits.raised_until_us.get(column),
    )

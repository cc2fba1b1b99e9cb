"""Rows that the clerk need not read again, because nobody else has written since it did (SQLite only).

SQLite tells whether another connection has committed anything (`PRAGMA data_version`, read inside the transaction that
holds the write lock, https://www.sqlite.org/pragma.html#pragma_data_version) and how many rows this one has changed.
While neither has moved, what the last batch left behind is what stands in the file, and four of a batch's queries fall
away. PostgreSQL has no such sign: there every batch reads under its own locks.
"""

from collections.abc import Collection
from dataclasses import dataclass

from billing import journal
from billing.journal import AccountState
from common.sql import Sql, WriteMark
from keys.limit_rows import lock_counters
from keys.limits import Counters

# Customers and keys remembered; all are forgotten beyond it.
_MOST_ROWS = 10_000

# Have catalogue or keys moved, is any hold or process due?
_HEAD = (
    "SELECT (SELECT value FROM common_generation WHERE name = 'catalogue'),"
    " (SELECT value FROM common_generation WHERE name = 'principals'),"
    " (SELECT value FROM common_generation WHERE name = 'health'),"
    " (SELECT min(expires_us) FROM billing_hold), (SELECT min(lease_until_us) FROM gateway_worker)"
)
_NEVER_US = 2**63 - 1


@dataclass(slots=True, kw_only=True)
class Head:
    """What a batch looks at first. The moments are never too late, but may be too early once a row has gone."""

    catalogue_generation: int
    principals_generation: int
    health_generation: int
    first_expiry_us: int
    first_lease_us: int


class Memory:
    """What is known of the database from batch to batch. Values are the batch's own, changed as it decides."""

    def __init__(self) -> None:
        self._mark: WriteMark | None = None
        self._head: Head | None = None
        self._accounts: dict[int, AccountState] = {}
        self._counters: dict[str, Counters] = {}
        self._last_transfer_id: int | None = None

    def begin(self, sql: Sql) -> None:
        """Forget everything unless nobody has written since `end`; first step inside a batch's transaction."""
        mark = sql.read_write_mark()
        if mark is None or mark != self._mark or len(self._counters) > _MOST_ROWS:
            self.forget()

    def end(self, sql: Sql) -> None:
        """Note what the batch leaves behind; last step before its commit."""
        self._mark = sql.read_write_mark()

    def forget(self) -> None:
        """Forget everything: a batch has failed, or others have written."""
        self._mark = self._head = self._last_transfer_id = None
        self._accounts = {}
        self._counters = {}

    def forget_transfer_ids(self) -> None:
        """Look for the last transfer anew: one was written that did not get its id here."""
        self._last_transfer_id = None

    def forget_head(self) -> None:
        """Look at the head anew: this batch itself has changed what snapshots hold."""
        self._head = None

    def read_head(self, sql: Sql, now_us: int) -> Head:
        """Return the head, read again when something may be due."""
        head = self._head
        if head is None or head.first_expiry_us <= now_us or head.first_lease_us <= now_us:
            catalogue, principals, health, first_expiry_us, first_lease_us = sql.rows(_HEAD)[0]
            head = self._head = Head(
                catalogue_generation=catalogue,
                principals_generation=principals,
                health_generation=health,
                first_expiry_us=_NEVER_US if first_expiry_us is None else first_expiry_us,
                first_lease_us=_NEVER_US if first_lease_us is None else first_lease_us,
            )
        return head

    def note_expiry(self, expires_us: int) -> None:
        """Take a hold that this batch opens into account."""
        if self._head is not None and expires_us < self._head.first_expiry_us:
            self._head.first_expiry_us = expires_us

    def lock_accounts(self, sql: Sql, customer_ids: Collection[int]) -> dict[int, AccountState]:
        """Return the accounts of customers, locked; see `billing.journal.lock_accounts`."""
        unknown = [customer_id for customer_id in customer_ids if customer_id not in self._accounts]
        if unknown:
            self._accounts.update(journal.lock_accounts(sql, unknown))
        return {customer_id: self._accounts[customer_id] for customer_id in customer_ids}

    def lock_counters(self, sql: Sql, owners: Collection[str], now_us: int) -> dict[str, Counters]:
        """Return the limit counters of owners, locked; see `keys.limit_rows.lock_counters`."""
        unknown = [owner for owner in owners if owner not in self._counters]
        if unknown:
            self._counters.update(lock_counters(sql, unknown, now_us))
        return {owner: self._counters[owner] for owner in owners}

    def allocate_transfer_ids(self, sql: Sql, count: int) -> list[int]:
        """Return `count` fresh ids of the transfer table."""
        if count == 0:
            return []
        if self._mark is None or self._last_transfer_id is None:
            ids = sql.allocate_ids("billing_transfer", count)
        else:
            ids = list(range(self._last_transfer_id + 1, self._last_transfer_id + 1 + count))
        self._last_transfer_id = ids[-1]
        return ids

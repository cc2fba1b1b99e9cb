"""What a clerk keeps from batch to batch."""

from collections.abc import Callable
from dataclasses import dataclass, field

from common.clock import Clock
from common.sql import Row, Sql
from gateway.admission.memory import Memory
from gateway.admission.worker import WorkerLease
from gateway.breakers import HealthBook
from gateway.catalogue import EMPTY_CATALOGUE, Catalogue, read_catalogue

_ABANDONED_FOR_US = 15_000_000


@dataclass(slots=True, kw_only=True)
class BatchContext:
    """What lives on from batch to batch in one clerk."""

    clock: Clock
    lease: WorkerLease
    memory: Memory = field(default_factory=Memory)
    catalogue: Catalogue = EMPTY_CATALOGUE
    # How the next one is read: whole, or as much of it as batches need.
    read_catalogue: Callable[[Sql, Catalogue], Catalogue] = read_catalogue
    health: HealthBook = HealthBook()  # noqa: RUF009 - frozen
    # Rows of keys as read in this generation of keys, customers and plans: no need to read them again.
    principals_generation: int = -1
    verified_rows: dict[int, Row] = field(default_factory=dict)
    revenue_account_id: int = 0
    # Admissions that nobody will settle, if they are in the database at all (a commit whose outcome is unknown, a
    # caller that left), and until when to look for their holds: the server may still be at that commit.
    abandoned: dict[str, int] = field(default_factory=dict)
    last_used_us: dict[int, int] = field(default_factory=dict)
    # When to look for rows that are kept for a time only.
    prune_us: int = 0

    def abandon(self, request_id: str) -> None:
        """Let a hold of `request_id` expire at once; safe to call from any thread."""
        self.abandoned[request_id] = self.clock.now_us() + _ABANDONED_FOR_US

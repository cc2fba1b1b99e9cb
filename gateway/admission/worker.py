"""This process's lease: while it is renewed, the process's holds are alive; when it runs out, they expire."""

import os
import socket

from common.sql import Sql


class WorkerLease:
    """The row of `gateway.Worker` for this process; touched by the clerk's thread only."""

    def __init__(self, *, lease_us: int, id: int = 0) -> None:
        """`id` is that of a lease to go on with."""
        self._lease_us = lease_us
        self._renew_at_us = 0
        self.id = id

    def renew_if_due(self, sql: Sql, now_us: int) -> None:
        """Renew the lease three times as often as it runs out; register (again) where the row is missing.

        A row that others removed (this process slept, or lost the database for a whole lease) means that the holds
        under the old id have expired; new ones get a new id.
        """
        if now_us < self._renew_at_us:
            return
        lease_until_us = now_us + self._lease_us
        renewed = self.id and sql.run(
            "UPDATE gateway_worker SET lease_until_us = %s WHERE id = %s", (lease_until_us, self.id)
        )
        if not renewed:
            (self.id,) = sql.allocate_ids("gateway_worker", 1)
            sql.run(
                "INSERT INTO gateway_worker (id, host, pid, started_us, lease_until_us) VALUES (%s, %s, %s, %s, %s)",
                (self.id, socket.gethostname()[:100], os.getpid(), now_us, lease_until_us),
            )
        self._renew_at_us = now_us + self._lease_us // 3

    def release(self, sql: Sql) -> None:
        """Give up the lease at shutdown: holds that are still open (there should be none) expire at once."""
        sql.run("UPDATE gateway_worker SET lease_until_us = 0 WHERE id = %s", (self.id,))
        self._renew_at_us = 0

    def forget_renewal(self) -> None:
        """Renew with the next batch: the last one was rolled back."""
        self._renew_at_us = 0


def find_dead_workers(sql: Sql, *, now_us: int, own_id: int) -> list[int]:
    """Return the ids of processes whose lease has run out."""
    rows = sql.rows("SELECT id FROM gateway_worker WHERE lease_until_us <= %s AND id <> %s", (now_us, own_id))
    return [row[0] for row in rows]


def remove_workers_without_holds(sql: Sql, worker_ids: list[int]) -> None:
    """Remove dead processes whose holds have all been resolved."""
    condition, parameters = sql.condition_in("id", worker_ids)
    sql.run(
        f"DELETE FROM gateway_worker WHERE {condition}"
        " AND NOT EXISTS (SELECT 1 FROM billing_hold h WHERE h.worker_id = gateway_worker.id)",
        parameters,
    )

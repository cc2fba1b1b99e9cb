"""A clerk's process that is a thread of the test: the same sockets and frames, and fixtures reach into it."""

import socket
import threading
from dataclasses import dataclass
from typing import Any

from django.db import connections

from common.clock import SYSTEM_CLOCK, Clock
from gateway.admission.clerk import Clerk
from gateway.admission.office import ForkedClerk, Office
from gateway.admission.remote import RemoteClerk

# Beyond any process of the system (/proc/sys/kernel/pid_max).
NO_PID = 2**22 + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOffice:
    """The far end of a remote clerk."""

    socket: socket.socket
    thread: threading.Thread

    def vanish(self) -> None:
        """Break off as a killed process does: nothing more is read or said."""
        self.socket.shutdown(socket.SHUT_RDWR)


def open_remote_clerk(
    *, queue_limit: int, batch_limit: int, lease_seconds: float, clock: Clock = SYSTEM_CLOCK
) -> tuple[RemoteClerk, OpenOffice]:
    """Return a clerk whose process has begun and waits for its first orders."""
    ours, theirs = socket.socketpair()
    bounds: dict[str, Any] = {"batch_limit": batch_limit, "lease_seconds": lease_seconds, "clock": clock}

    def work() -> None:
        try:
            Office(theirs, **bounds).run()
        finally:
            theirs.close()
            connections.close_all()

    thread = threading.Thread(target=work, name="office", daemon=True)
    thread.start()
    clerk = RemoteClerk(
        ForkedClerk(ours, NO_PID),
        queue_limit=queue_limit,
        make_stand_in=lambda lease_id: Clerk(queue_limit=queue_limit, lease_id=lease_id, **bounds),
        clock=clock,
    )
    return clerk, OpenOffice(socket=theirs, thread=thread)

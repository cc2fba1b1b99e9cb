"""One timer for all streams of a process: whoever gathers text is called within the next 20 ms.

A timer a token would cost more than the token. The pulse beats only while somebody waits for it.
"""

import asyncio
from typing import Protocol

BEAT_SECONDS = 0.02


class Waiting(Protocol):
    """Something that has gathered text."""

    def beat(self) -> None:
        """Send what has been gathered."""


class Pulse:
    """Belongs to one event loop."""

    def __init__(self, beat_seconds: float = BEAT_SECONDS) -> None:
        self._beat_seconds = beat_seconds
        self._waiting: set[Waiting] = set()
        self._is_due = False

    def join(self, waiting: Waiting) -> None:
        """Call `waiting` once, at the next beat."""
        self._waiting.add(waiting)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(self._beat_seconds, self._beat)

    def _beat(self) -> None:
        waiting, self._waiting = self._waiting, set()
        self._is_due = False
        for one in waiting:
            one.beat()

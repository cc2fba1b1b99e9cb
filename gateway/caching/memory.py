"""Answers in this process: the least recently used goes first once they take more than they may."""

from collections import OrderedDict

from gateway.caching.entries import MAX_CACHED_BYTES, CachedAnswer


class AnswerMemory:
    """Belongs to one event loop. A bound of 0 bytes keeps nothing."""

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._answers: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: bytes, now_us: int) -> CachedAnswer | None:
        """Return the answer under a key; one whose time is over is forgotten."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        if answer.keep_until_us <= now_us:
            self._forget(key)
            return None
        self._answers.move_to_end(key)
        return answer

    def keep(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep an answer in place of any other under its key, and make room for it."""
        if key in self._answers:
            self._forget(key)
        if answer.size_bytes > min(self._limit_bytes, MAX_CACHED_BYTES):
            return
        self._answers[key] = answer
        self.used_bytes += answer.size_bytes
        while self.used_bytes > self._limit_bytes:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: bytes) -> None:
        self.used_bytes -= self._answers.pop(key).size_bytes

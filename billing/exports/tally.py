"""The control figures of a file while it is being written."""

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Tally:
    """Mutable: formats add to rows and total, whoever takes the bytes adds them."""

    # Records of the file: lines without the header, events, charges, transactions.
    row_count: int = 0
    total_nanousd: int = 0
    byte_count: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def add_rows(self, count: int, total_nanousd: int) -> None:
        """Count records of the file."""
        self.row_count += count
        self.total_nanousd += total_nanousd

    def add_bytes(self, chunk: bytes) -> None:
        """Count bytes of the file, in their order."""
        self.byte_count += len(chunk)
        self._digest.update(chunk)

    @property
    def sha256(self) -> str:
        return str(self._digest.hexdigest())

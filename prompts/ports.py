"""What this app needs from above and may not import: somebody who calls models, and figures of customers' calls.

The gateway fills both in when Django starts (`gateway.apps`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from common.errors import InternalError
from prompts.testing import PromptRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class CallNumbers:
    """Customers' calls of one version in a range of time. Latencies in milliseconds, of the latest calls."""

    version: str
    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    charged_nanousd: int
    p50_ms: int
    p95_ms: int


OpenRunner = Callable[[], AbstractContextManager[PromptRunner]]
ReadCallNumbers = Callable[[str, Sequence[str], datetime], Sequence[CallNumbers]]


@dataclass(slots=True)
class _Ports:
    open_runner: OpenRunner | None = None
    read_call_numbers: ReadCallNumbers | None = None


_ports = _Ports()


def connect_ports(*, open_runner: OpenRunner, read_call_numbers: ReadCallNumbers) -> None:
    """Fill in who runs test cases, and who knows the figures."""
    _ports.open_runner = open_runner
    _ports.read_call_numbers = read_call_numbers


def open_runner() -> AbstractContextManager[PromptRunner]:
    """Return a runner for test cases; leave it to give back what it holds."""
    if _ports.open_runner is None:
        raise InternalError(internal_detail="nobody runs test cases: is the gateway installed?")
    return _ports.open_runner()


def read_call_numbers(prompt: str, versions: Sequence[str], since: datetime) -> Sequence[CallNumbers]:
    """Return the figures of each version since a moment, in the order given; also of versions without a call."""
    return () if _ports.read_call_numbers is None else _ports.read_call_numbers(prompt, versions, since)

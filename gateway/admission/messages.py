"""What an event loop and its clerk's process tell each other: frames over a pair of sockets.

Both ends are one program, forked; nobody else can write to the sockets. What every call asks and is answered goes over
as plain values, which take a fraction of the time that objects do to write and read (`marshal`: for one interpreter's
version alone, which this is); everything else is pickled among them. A principal goes over once, and is known by its
number from then on; limits go over as the header lines that they become.
"""

import marshal
import pickle
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from billing.journal import NewUsage
from billing.tokens import TokenCounts
from gateway.admission.commands import Admit, Admitted, Command, Reuse, Reused, Settle, Settled
from gateway.admission.desk import Entry, Result
from gateway.breakers import HealthBook
from gateway.idempotency import Claim, StoredAnswer
from gateway.limit_headers import ToldLimits
from keys.limits import Marks
from keys.principals import Principal, principal_of_row

_LENGTH = struct.Struct("!I")
_MOST_PRINCIPALS = 10_000
_TOKENS_AT = NewUsage._fields.index("tokens")
# What an entry or a result is.
_PICKLED, _ADMIT, _SETTLE, _REUSE, _ADMITTED, _SETTLED, _REUSED = range(7)


class Orders(NamedTuple):
    """From the event loop. Tickets are numbers."""

    entries: list[Entry]
    # Calls whose holds nobody will settle.
    abandoned: list[str]
    # Set: book what there is, within so many seconds, and end.
    stop_seconds: float | None = None


class Report(NamedTuple):
    """From the clerk, after a batch."""

    results: list[Result]
    is_healthy: bool
    lease_id: int
    # The catalogue's, by which these answers were given.
    generation: int
    # None: as before.
    health: HealthBook | None


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> Iterator[tuple[Any, ...]]:
        """Take bytes in and yield the values of the frames that they complete."""
        held = self._bytes + data if self._bytes else data
        start = 0
        while len(held) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(held, start)
            end = start + _LENGTH.size + length
            if len(held) < end:
                break
            yield marshal.loads(held[start + _LENGTH.size : end])  # noqa: S302 - from our own fork, see above
            start = end
        self._bytes = held[start:]


# ---- questions


class OrderWriter:
    """Writes the frames of one event loop."""

    def __init__(self) -> None:
        # By identity: to compare two is to compare everything in them. Each is kept, so no identity comes again.
        self._numbers: dict[int, tuple[int, Principal]] = {}
        self._last_number = 0
        # Of the frame that is being written: numbers, and the rows behind them.
        self._new: list[tuple[int, bytes]] = []

    def write(self, orders: Orders) -> bytes:
        """Return a frame."""
        entries = [(entry.ticket, *self._plain(entry.command)) for entry in orders.entries]
        try:
            frame = _frame((self._new, entries, orders.abandoned, orders.stop_seconds))
        except ValueError:
            # A value that is not as plain as it looks, like text of a class of its own.
            pickled = [(entry.ticket, *_pickled(entry.command)) for entry in orders.entries]
            frame = _frame((self._new, pickled, orders.abandoned, orders.stop_seconds))
        # Only now: what does not get into this frame goes into the next one.
        self._new = []
        return frame

    def _plain(self, command: Command) -> tuple[Any, ...]:
        if isinstance(command, Settle) and not command.attempts and command.findings is None:
            usage, principal, has_claim, answer, marks, endpoint_class, *_ = command
            plain_marks = [tuple(mark) for mark in marks]
            number = self._number(principal)
            return _SETTLE, _plain_usage(usage), number, has_claim, _tuple(answer), plain_marks, str(endpoint_class)
        if isinstance(command, Admit):
            return _ADMIT, *self._plain_admit(command)
        if isinstance(command, Reuse):
            admit = self._plain_admit(command.admit)
            return _REUSE, admit, _plain_usage(command.usage), _tuple(command.answer)
        return _pickled(command)

    def _plain_admit(self, admit: Admit) -> tuple[Any, ...]:
        number, claim = self._number(admit.principal), _tuple(admit.claim)
        # An enumeration's member is no plain text.
        return number, tuple(admit._replace(principal=None, claim=claim, endpoint_class=str(admit.endpoint_class)))  # type: ignore[arg-type]

    def _number(self, principal: Principal) -> int:
        known = self._numbers.get(id(principal))
        if known is not None:
            return known[0]
        if len(self._numbers) >= _MOST_PRINCIPALS:
            self._numbers.clear()
        self._last_number = number = self._last_number + 1
        self._numbers[id(principal)] = number, principal
        self._new.append((number, pickle.dumps(principal.row, pickle.HIGHEST_PROTOCOL)))
        return number


class OrderReader:
    """Reads them, and knows their principals, the newest of them."""

    def __init__(self) -> None:
        self._frames = FrameReader()
        self._principals: dict[int, Principal] = {}

    def feed(self, data: bytes) -> Iterator[Orders]:
        """Take bytes in and yield the orders that they complete."""
        for new, entries, abandoned, stop_seconds in self._frames.feed(data):
            for number, row in new:
                self._principals[number] = principal_of_row(pickle.loads(row))  # noqa: S301
                # Twice what the other end knows: it may begin anew within a frame, whose numbers all count here.
                if len(self._principals) > 2 * _MOST_PRINCIPALS:
                    del self._principals[next(iter(self._principals))]
            yield Orders([Entry(self._command(*rest), ticket) for ticket, *rest in entries], abandoned, stop_seconds)

    def _command(self, kind: int, *values: Any) -> Command:
        if kind == _SETTLE:
            usage, number, has_claim, answer, marks, endpoint_class = values
            return Settle(
                _usage(usage),
                self._principals[number],
                has_claim=has_claim,
                answer=answer and StoredAnswer._make(answer),
                marks=tuple(map(Marks._make, marks)),
                endpoint_class=endpoint_class,
            )
        if kind == _ADMIT:
            return self._admit(*values)
        if kind == _REUSE:
            admit, usage, answer = values
            return Reuse(self._admit(*admit), _usage(usage), answer and StoredAnswer._make(answer))
        command: Command = pickle.loads(values[0])  # noqa: S301
        return command

    def _admit(self, number: int, values: tuple[Any, ...]) -> Admit:
        admit = Admit._make(values)
        claim = admit.claim and Claim._make(admit.claim)
        return admit._replace(principal=self._principals[number], claim=claim)


def _plain_usage(usage: NewUsage) -> list[Any]:
    values: list[Any] = list(usage)
    values[_TOKENS_AT] = tuple(usage.tokens)
    return values


def _usage(values: list[Any]) -> NewUsage:
    values[_TOKENS_AT] = TokenCounts._make(values[_TOKENS_AT])
    return NewUsage._make(values)


def _tuple(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _pickled(value: object) -> tuple[int, bytes]:
    return _PICKLED, pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


# ---- answers


def write_report(report: Report) -> bytes:
    """Return a frame."""
    results, *standing, health = report
    told = [] if health is None else [pickle.dumps(health, pickle.HIGHEST_PROTOCOL)]
    try:
        return _frame(([_plain_result(result) for result in results], *standing, told))
    except ValueError:
        return _frame(([(result.ticket, *_pickled(result[1:])) for result in results], *standing, told))


def _plain_result(result: Result) -> tuple[Any, ...]:
    ticket, answer, error = result
    if isinstance(answer, Settled):
        return ticket, _SETTLED, tuple(answer)
    if isinstance(answer, Admitted):
        limits = ToldLimits.of(answer.limits)
        marks = [tuple(mark) for mark in answer.marks]
        values = (answer.request_id, answer.started_us, answer.amount_nanousd, answer.available_nanousd)
        return ticket, _ADMITTED, values, limits.lines, limits.values, marks
    if isinstance(answer, Reused):
        limits = ToldLimits.of(answer.limits)
        return ticket, _REUSED, tuple(answer[:2]), limits.lines, limits.values
    return ticket, *_pickled((answer, error))


class ReportReader:
    """Reads the frames of one clerk."""

    def __init__(self) -> None:
        self._frames = FrameReader()

    def feed(self, data: bytes) -> Iterator[Report]:
        """Take bytes in and yield the reports that they complete."""
        for results, is_healthy, lease_id, generation, health in self._frames.feed(data):
            found = [_result(*result) for result in results]
            book = pickle.loads(health[0]) if health else None  # noqa: S301
            yield Report(found, is_healthy, lease_id, generation, book)


def _result(ticket: int, kind: int, values: Any, *limits: Any) -> Result:
    if kind == _SETTLED:
        return Result(ticket, Settled._make(values), None)
    if kind == _ADMITTED:
        lines, readings, marks = limits
        return Result(
            ticket, Admitted._make((*values, ToldLimits(lines, readings), tuple(map(Marks._make, marks)))), None
        )
    if kind == _REUSED:
        return Result(ticket, Reused._make((*values, ToldLimits(*limits))), None)
    return Result(ticket, *pickle.loads(values))  # noqa: S301


def _frame(values: tuple[Any, ...]) -> bytes:
    data = marshal.dumps(values)
    return _LENGTH.pack(len(data)) + data

"""Lists and objects that count how often their members are read: what an operator of the engine costs.

Filters can be replaced by ones that say beforehand what they go over; `in`, `~`, `==` and a loop cannot. The engine
reads values through Python's own protocol (MiniJinja 3, `__getitem__` of lists, `__iter__` of objects, `__repr__` for
text, comparisons as a whole), so these are asked for every member. The engine takes an exception there for a missing
member: once the last read is spent they are empty instead, and whoever fills in the template looks at `Reads`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from typing_extensions import override

from prompts.json_values import JsonObject, JsonValue

# Values that are read by the engine itself: a hundredth of what the hook costs, and no more than these in a few
# characters of a template.
_FEW = 32


class Reads:
    """How many members may still be read."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    @property
    def are_spent(self) -> bool:
        return self.left < 0

    def take(self, number: int) -> bool:
        """Take so many; return whether they were there. Once one was not, nothing is given any more."""
        if self.left >= 0:
            self.left -= number
        return self.left >= 0


class CountedList(list[Any]):
    """A list; comparing it and writing it down read all of it."""

    __slots__ = ("_cost", "_reads")
    __hash__ = None

    def __init__(self, members: Iterable[Any], reads: Reads, cost: int = 1) -> None:
        """`cost` is what reading one member takes, on average."""
        super().__init__(members)
        self._reads = reads
        self._cost = cost

    @override
    def __getitem__(self, index: Any) -> Any:
        if not self._reads.take(self._cost):
            raise IndexError(index)
        return super().__getitem__(index)

    @override
    def __len__(self) -> int:
        return 0 if self._reads.are_spent else super().__len__()

    @override
    def __iter__(self) -> Iterator[Any]:
        return super().__iter__() if self._take_all() else iter(())

    @override
    def __repr__(self) -> str:
        return super().__repr__() if self._take_all() else ""

    @override
    def __eq__(self, other: object) -> bool:
        return self._take_all() and super().__eq__(other)

    @override
    def __ne__(self, other: object) -> bool:
        return self._take_all() and super().__ne__(other)

    @override
    def __lt__(self, other: Any) -> bool:
        return self._take_all() and super().__lt__(other)

    @override
    def __le__(self, other: Any) -> bool:
        return self._take_all() and super().__le__(other)

    @override
    def __gt__(self, other: Any) -> bool:
        return self._take_all() and super().__gt__(other)

    @override
    def __ge__(self, other: Any) -> bool:
        return self._take_all() and super().__ge__(other)

    def _take_all(self) -> bool:
        return self._reads.take(super().__len__() * self._cost)


class CountedObject(dict[str, Any]):
    """An object; its names are not searched for, so that looking one up reads one member."""

    __slots__ = ("_cost", "_reads")
    __hash__ = None

    def __init__(self, members: JsonObject, reads: Reads, cost: int = 1) -> None:
        """`cost` is what reading one member takes, on average."""
        super().__init__(members)
        self._reads = reads
        self._cost = cost

    @override
    def __getitem__(self, name: str) -> Any:
        if not self._reads.take(self._cost):
            raise KeyError(name)
        return super().__getitem__(name)

    @override
    def __len__(self) -> int:
        return 0 if self._reads.are_spent else super().__len__()

    @override
    def __iter__(self) -> Iterator[str]:
        return super().__iter__() if self._take_all() else iter(())

    @override
    def __repr__(self) -> str:
        return super().__repr__() if self._take_all() else ""

    @override
    def __eq__(self, other: object) -> bool:
        return self._take_all() and super().__eq__(other)

    @override
    def __ne__(self, other: object) -> bool:
        return self._take_all() and super().__ne__(other)

    def _take_all(self) -> bool:
        return self._reads.take(super().__len__() * self._cost)


def count_reads(value: JsonValue, reads: Reads) -> Any:
    """Return a value that takes from `reads` what is read of it; the value itself is not changed.

    What has few members stays as it is: reading it costs what they are together, on the part of what it is in.
    """
    return _count(value, reads)[0]


def _count(value: JsonValue, reads: Reads) -> tuple[Any, int]:
    """Return the value, and what reading it as a member of another one takes."""
    if not isinstance(value, list | dict):
        return value, 1
    members: Any = value.values() if isinstance(value, dict) else value
    size, counted = len(value), [member for member in members if isinstance(member, list | dict)]
    if counted:
        pairs = [_count(member, reads) for member in members]
        size = sum(cost for _, cost in pairs)
        counted = [new for new, _ in pairs]
        if all(new is old for new, old in zip(counted, members, strict=True)):
            counted = []
    if not counted and size <= _FEW:
        return value, 1 + size
    if isinstance(value, dict):
        found: Any = dict(zip(value, counted, strict=True)) if counted else value
        return (found, 1 + size) if size <= _FEW else (CountedObject(found, reads, -(-size // len(value))), 1)
    found = counted or value
    return (found, 1 + size) if size <= _FEW else (CountedList(found, reads, -(-size // len(value))), 1)

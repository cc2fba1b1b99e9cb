"""`sort` and `unique` of templates, as MiniJinja has them (https://docs.rs/minijinja/2/minijinja/filters/, 2026-11).

Ours because the engine cannot say beforehand what a filter costs: these tell how many values they go over.
"""

from typing import Any

import orjson

_Key = tuple[int, Any]


def count_values(value: Any) -> int:
    """Return how many values there are in one, itself included: what passing it to a filter takes."""
    counted, waiting = 0, [value]
    while waiting:
        members = waiting.pop()
        if isinstance(members, dict):
            members = list(members.values())
        if not isinstance(members, list | tuple):
            counted += 1
            continue
        nested = [member for member in members if isinstance(member, list | tuple | dict)]
        counted += 1 + len(members) - len(nested)
        waiting += nested
    return counted


def sort_list(value: Any, *, case_sensitive: bool, reverse: bool, attribute: str | None) -> list[Any]:
    """Return the members in order, those of an object by their names. Raises TypeError for what has none."""
    return sorted(
        _members(value),
        key=lambda member: _key_of(_attribute_of(member, attribute), case_sensitive=case_sensitive),
        reverse=reverse,
    )


def unique_list(value: Any, *, case_sensitive: bool, attribute: str | None) -> list[Any]:
    """Return the first of all members that are the same. Raises TypeError for what has no members."""
    found: dict[_Key, Any] = {}
    for member in _members(value):
        found.setdefault(_key_of(_attribute_of(member, attribute), case_sensitive=case_sensitive), member)
    return list(found.values())


def _members(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple | dict | str):
        raise TypeError(type(value).__name__)
    return list(value)


def _attribute_of(member: Any, path: str | None) -> Any:
    for name in path.split(".") if path else ():
        member = member.get(name) if isinstance(member, dict) else None
    return member


def _key_of(value: Any, *, case_sensitive: bool) -> _Key:
    """Return what orders values of any kind: nothing, booleans, numbers, texts, lists, objects."""
    match value:
        case None:
            return 0, 0
        case bool():
            return 1, value
        case int() | float():
            return 2, value
        case str():
            return 3, value if case_sensitive else value.lower()
        case list() | tuple():
            return 4, tuple(_key_of(member, case_sensitive=case_sensitive) for member in value)
        case _:
            return 5, orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

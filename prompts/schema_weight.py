"""How much work a JSON Schema can make of one value, before it is ever used. Measured once a schema.

What was measured with jsonschema-rs 0.60:

- The verdict (`is_valid`) remembers what it found for references that lead back to themselves, but follows every other
  reference as often as it is written: twenty definitions that each name the next one twice are a million checks.
- The list of what is wrong is built without that memory. Where a schema leads back to itself on two ways that look at
  the same value, the ways double at every level: three alternatives that contain themselves, ten levels deep, 32 s.
- `unevaluatedProperties` and `unevaluatedItems` have no memory even for the verdict, so they do not go with recursion.
"""

from collections.abc import Iterable
from typing import NamedTuple

from prompts.json_values import JsonObject, JsonValue

_ALTERNATIVES = ("anyOf", "oneOf", "allOf")
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
# Other ways to name a schema: what they lead to is not measured here, so they are not accepted.
_UNMEASURED = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef")
# Members of a value that are never the same one: ways through them do not add up.
_DISJOINT = ("properties", "additionalProperties", "prefixItems", "items")
# Values of these are data and no schemas; comparing with a list costs a check a member.
_DATA = ("enum", "const", "required", "default", "examples")
# Exact arithmetic on numbers of any size: 78 us where a comparison takes 0.07.
_CHECKS_OF_A_FRACTION = 1_000


class SchemaWeight(NamedTuple):
    """What a schema can cost."""

    # Checks of one value, every reference followed as often as it is written.
    checks: int
    # Of those, the ones that read every character of a text.
    patterns: int
    # It leads back to itself on two ways at once: the list of what is wrong cannot be asked for.
    is_explosive: bool


class _Found(NamedTuple):
    checks: int
    patterns: int
    # It leads back to a node that is being weighed.
    returns: bool


_NOTHING = _Found(0, 0, returns=False)


def weigh_schema(schema: JsonObject) -> SchemaWeight:
    """Return what `schema` can cost.

    Raises ValueError for what cannot be measured or bounded, RecursionError for chains that nobody writes by hand.
    """
    scale = _Scale(schema)
    found = scale.weigh(schema)
    if scale.is_recursive and scale.unevaluated:
        raise ValueError(f"'{scale.unevaluated}' is not supported in a schema that leads back to itself.")
    return SchemaWeight(checks=found.checks, patterns=found.patterns, is_explosive=scale.is_explosive)


class _Scale:
    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._known: dict[int, _Found] = {}
        self._open: set[int] = set()
        self.is_explosive = False
        self.is_recursive = False
        self.unevaluated = ""

    def weigh(self, node: JsonValue) -> _Found:
        """Return what a schema costs, or the sum of a list of schemas."""
        if isinstance(node, list):
            return _sum(self.weigh(member) for member in node)
        if not isinstance(node, dict):
            return _NOTHING
        if id(node) in self._open:
            self.is_recursive = True
            return _Found(1, 0, returns=True)
        known = self._known.get(id(node))
        if known is None:
            self._open.add(id(node))
            known = self._known[id(node)] = self._weigh_object(node)
            self._open.discard(id(node))
        return known

    def _weigh_object(self, node: JsonObject) -> _Found:
        checks, patterns, ways, has_disjoint_way = 1, 0, 0, False
        for name, value in node.items():
            if isinstance(value, str):
                self._check_reference(node, name, value)
            if name in _UNEVALUATED:
                self.unevaluated = name
            found = self._weigh_members(name, value)
            checks += sum(member.checks for member in found)
            patterns += sum(member.patterns for member in found)
            returning = sum(member.returns for member in found)
            if name in _DISJOINT:
                has_disjoint_way |= bool(returning)
            elif name not in ("$defs", "definitions"):
                ways += returning
        ways += has_disjoint_way
        self.is_explosive |= ways > 1
        return _Found(checks, patterns, returns=ways > 0)

    def _weigh_members(self, name: str, value: JsonValue) -> list[_Found]:
        """Return what the schemas below one keyword cost, each for itself."""
        if name in _DATA:
            return [_Found(len(value), 0, returns=False)] if isinstance(value, list) else []
        if name == "multipleOf":
            return [_Found(_CHECKS_OF_A_FRACTION, 0, returns=False)]
        if name in ("pattern", "format"):
            return [_Found(1, 1, returns=False)]
        if name == "patternProperties" and isinstance(value, dict):
            return [_Found(len(value), len(value), returns=False), *map(self.weigh, value.values())]
        if name in _MAPS and isinstance(value, dict):
            return [self.weigh(member) for member in value.values()]
        if name in _ALTERNATIVES and isinstance(value, list):
            return [self.weigh(member) for member in value]
        return [self.weigh(_target(self._root, value) if name == "$ref" else value)]

    def _check_reference(self, node: JsonObject, name: str, value: str) -> None:
        if name in _UNMEASURED or (name == "$id" and node is not self._root):
            raise ValueError(f"'{name}' is not supported.")
        if name == "$ref" and value != "#" and not value.startswith("#/"):
            raise ValueError(f"'$ref' has to be a pointer ('#/$defs/...'), not {value[:50]!r}.")


def _sum(found: Iterable[_Found]) -> _Found:
    total = list(found)
    return _Found(
        sum(member.checks for member in total),
        sum(member.patterns for member in total),
        returns=any(member.returns for member in total),
    )


def _target(root: JsonObject, reference: JsonValue) -> JsonValue:
    """Return what a local reference points at; nothing where it points nowhere, which the validator will say."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    node: JsonValue = root
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node

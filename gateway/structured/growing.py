"""Values while they grow: what a text of JSON says so far, and the schema that it can be held against already.

Two readings of the same text. What is shown includes the string that is being written. What is checked leaves it out,
with a number that may still get digits, so that whatever is in it is final, except that objects and lists may still
grow. The loosened schema asks nothing that growing can still fulfil, so a value that it refuses can never become valid.
"""

from typing import NamedTuple

from pydantic_core import from_json

from prompts.json_values import JsonObject, JsonValue

# What a value that is not whole may fail though it is going to be valid.
_DROPPED = frozenset(
    (
        "required",
        "minItems",
        "minProperties",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "dependentRequired",
        "dependencies",
        "not",
        "if",
        "then",
        "else",
        "unevaluatedProperties",
        "unevaluatedItems",
    )
)
# Their values are names or plain values, not schemas.
_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_PLAIN = frozenset(("enum", "const", "default", "examples", "type", "$ref"))
_NUMBER_CHARACTERS = "0123456789+-.eE"


class Growing(NamedTuple):
    """A value as far as its text says."""

    # With the string that is being written.
    shown: JsonValue
    # Without anything that may still change by itself.
    settled: JsonValue


def read_growing(text: str) -> Growing | None:
    """Return what a part of a JSON text says, or None where nothing can be said: it has not begun, or is no JSON."""
    try:
        shown: JsonValue = from_json(text, allow_partial="trailing-strings")
        settled: JsonValue = from_json(text.rstrip(_NUMBER_CHARACTERS), allow_partial=True)
    except ValueError:
        return None
    return Growing(shown, settled)


def loosen_schema(schema: JsonObject) -> JsonObject:
    """Return the schema of values that are still growing."""
    loose: JsonObject = {}
    for name, value in schema.items():
        if name in _DROPPED:
            continue
        if name in ("enum", "const"):
            listed = value if name == "enum" and isinstance(value, list) else [value]
            # A list or object of it may be there in part.
            if not any(isinstance(item, dict | list) for item in listed):
                loose[name] = value
        elif name == "oneOf":
            # Several may still be possible. Kept apart from an `anyOf` that stands beside it.
            both = loose.setdefault("allOf", [])
            assert isinstance(both, list)
            both.append({"anyOf": _loosen(value)})
        elif name == "allOf":
            both = loose.setdefault("allOf", [])
            assert isinstance(both, list)
            members = _loosen(value)
            both += members if isinstance(members, list) else []
        elif name in _PLAIN:
            loose[name] = value
        elif name in _MAPS and isinstance(value, dict):
            loose[name] = {key: _loosen(member) for key, member in value.items()}
        else:
            loose[name] = _loosen(value)
    return loose


def _loosen(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return loosen_schema(value)
    if isinstance(value, list):
        return [_loosen(item) for item in value]
    return value

"""JSON schemas of answers, as Anthropic takes them."""

from typing import Any

# Keywords that hold schemas: by name, or one or several.
_NAMED = ("properties", "$defs", "definitions")
_PLAIN = ("items", "prefixItems", "anyOf", "allOf", "oneOf")


def close_schema(schema: Any) -> Any:
    """Return a schema whose objects say that they have no further properties, as Anthropic insists.

    What fits it fits the one given, so the check of the answer against that one still holds. Objects without
    `properties` are left alone: closed, they could only be empty.
    (https://platform.claude.com/docs/en/build-with-claude/structured-outputs, 2026-11)
    """
    if isinstance(schema, list):
        return [close_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for keyword in _NAMED:
        if isinstance(schema.get(keyword), dict):
            closed[keyword] = {name: close_schema(value) for name, value in schema[keyword].items()}
    for keyword in _PLAIN:
        if keyword in schema:
            closed[keyword] = close_schema(schema[keyword])
    if "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed

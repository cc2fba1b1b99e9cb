"""Sample values for schemas: what the editor fills in first, and what API documents show as an example."""

from prompts.json_values import JsonObject, JsonValue

_MAX_DEPTH = 8


def sample_inputs(schema: JsonObject) -> JsonObject:
    """Return inputs in the shape of an input schema; its own examples, defaults and enums come first."""
    found = _sample("inputs", schema, _MAX_DEPTH)
    return found if isinstance(found, dict) else {}


def _sample(name: str, schema: JsonValue, depth: int) -> JsonValue:
    if not isinstance(schema, dict) or depth == 0:
        return None
    given = _given(schema)
    if given is not None:
        return given
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            properties = schema.get("properties")
            members = properties if isinstance(properties, dict) else {}
            return {key: _sample(key, value, depth - 1) for key, value in members.items()}
        case "array":
            size = schema.get("minItems")
            item = _sample(name.removesuffix("s"), schema.get("items", {"type": "string"}), depth - 1)
            return [item] * (min(size, 5) if isinstance(size, int) and size > 0 else 1)
        case "integer" | "number":
            return _least(schema)
        case "boolean":
            return True
        case "null":
            return None
    shortest = schema.get("minLength")
    text = f"some {name.replace('_', ' ')}"
    return text.ljust(min(shortest, 200), ".") if isinstance(shortest, int) else text


def _given(schema: JsonObject) -> JsonValue:
    """Return the first value that the schema itself proposes, or None."""
    for name in ("examples", "enum"):
        listed = schema.get(name)
        if isinstance(listed, list) and listed:
            return listed[0]
    return schema.get("const", schema.get("default"))


def _least(schema: JsonObject) -> JsonValue:
    least = schema.get("minimum")
    return least if isinstance(least, int | float) else 1

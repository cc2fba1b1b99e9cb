"""JSON as a type: what schemas, inputs and parameters are made of, and its one text form."""

import orjson

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = dict[str, JsonValue]


def to_json(value: JsonValue, *, is_pretty: bool = False) -> str:
    """Return the text of a value; the order of an object's names is kept, since models read schemas from the top."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if is_pretty else None).decode()


def to_sorted_json(value: JsonValue) -> str:
    """Return a text that is the same for equal values, whatever the order of their names."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def from_json(text: str | bytes) -> JsonValue:
    """Return the value of a text. Raises ValueError for what is not JSON (also NaN, and nesting without end)."""
    value: JsonValue = orjson.loads(text)
    return value

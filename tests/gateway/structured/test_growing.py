from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.structured.growing import read_growing
from gateway.structured.schemas import compile_output_schema

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3, "pattern": "^[a-z]+$"},
        "kind": {"enum": ["cat", "catfish"]},
        "age": {"type": "integer", "minimum": 100, "maximum": 999},
        "tags": {
            "type": "array",
            "items": {"oneOf": [{"const": "x"}, {"const": "xy"}]},
            "minItems": 2,
            "uniqueItems": True,
        },
        "flag": {"type": "boolean"},
        "pair": {"const": [1, 2]},
    },
    "required": ["name", "kind", "age", "tags", "flag", "pair"],
    "additionalProperties": False,
    "not": {"required": ["other"]},
}
VALID: dict[str, Any] = {
    "name": "mia",
    "kind": "catfish",
    "age": 123,
    "tags": ["x", "xy"],
    "flag": True,
    "pair": [1, 2],
}


def accepts(schema: dict[str, Any], text: str) -> bool:
    growing = read_growing(text)
    compiled = compile_output_schema(schema, param="schema")
    return growing is None or compiled.accepts_so_far(growing.settled, text.encode())


def test_no_beginning_of_a_valid_answer_is_refused() -> None:
    text = orjson.dumps(VALID).decode()
    assert compile_output_schema(SCHEMA, param="schema").find_problems(VALID, b"{}") == []
    assert all(accepts(SCHEMA, text[:end]) for end in range(len(text) + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.floats(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_no_beginning_of_a_value_is_refused_by_the_schema_that_it_alone_fits(value: Any) -> None:
    text = orjson.dumps(value).decode()
    schema = _schema_of(orjson.loads(text))
    assert compile_output_schema(schema, param="schema").find_problems(orjson.loads(text), text.encode()) == []
    assert all(accepts(schema, text[:end]) for end in range(len(text) + 1))


def _schema_of(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        properties = {name: _schema_of(member) for name, member in value.items()}
        return {
            "type": "object",
            "properties": properties,
            "required": [*value],
            "additionalProperties": False,
            "minProperties": len(value),
        }
    if isinstance(value, list):
        items = {"prefixItems": [_schema_of(item) for item in value]} if value else {}
        return {"type": "array", **items, "minItems": len(value), "maxItems": len(value)}
    return {"const": value}


@pytest.mark.parametrize(
    "text",
    ['{"name": 5, ', '{"kind": "dog", "na', '{"age": 12, ', '{"other": 1, ', '{"tags": ["z", ', '{"age": 1234}'],
)
def test_what_can_never_become_valid_is_refused_as_soon_as_it_is_settled(text: str) -> None:
    assert not accepts(SCHEMA, text)


def test_what_is_shown_has_the_string_that_is_being_written() -> None:
    growing = read_growing('{"a": {"b": "hel')
    assert growing is not None
    assert (growing.shown, growing.settled) == ({"a": {"b": "hel"}}, {"a": {}})


@pytest.mark.parametrize("text", ["", "  ", "no JSON"])
def test_text_that_says_nothing_shows_nothing(text: str) -> None:
    assert read_growing(text) is None

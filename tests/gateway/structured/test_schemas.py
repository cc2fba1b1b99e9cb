from typing import Any

import pytest

from gateway.structured.errors import OutputSchemaInvalid
from gateway.structured.schemas import compile_output_schema
from gateway.structured.strictness import asks_for_more, make_strict

EXPRESSION: dict[str, Any] = {
    "$ref": "#/$defs/term",
    "$defs": {
        "term": {
            "anyOf": [
                {"type": "number"},
                *[
                    {
                        "type": "object",
                        "properties": {"op": {"const": op}, "left": {"$ref": "#/$defs/term"}},
                        "required": ["op", "left"],
                    }
                    for op in ("add", "multiply", "divide")
                ],
            ]
        }
    },
}


def compiled(schema: dict[str, Any]) -> Any:
    return compile_output_schema(schema, param="schema")


def test_equal_schemas_are_compiled_once() -> None:
    assert compiled({"type": "object", "title": "x"}) is compiled({"type": "object", "title": "x"})


def test_kept_schemas_are_bounded() -> None:
    first = compiled({"const": "first"})
    for number in range(120):
        compiled({"const": f"{number}", "description": "x" * 40_000})
    assert compiled({"const": "first"}) is not first


def test_what_is_wrong_is_told_by_place() -> None:
    schema = compiled({"properties": {"a": {"items": {"type": "integer"}}}})
    assert schema.find_problems({"a": [1, "x"]}, b'{"a": [1, "x"]}') == ['a[1]: "x" is not of type "integer"']
    assert schema.find_problems({"a": [1]}, b'{"a": [1]}') == []


def test_a_schema_whose_references_multiply_is_refused() -> None:
    definitions = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(20)}
    with pytest.raises(OutputSchemaInvalid, match="multiply"):
        compiled({"$ref": "#/$defs/a0", "$defs": {**definitions, "a20": {}}})


def test_the_strict_form_closes_objects_and_requires_everything() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
    strict = make_strict(schema)
    assert strict == {**schema, "required": ["a"], "additionalProperties": False}
    assert asks_for_more(strict, schema)
    assert not asks_for_more(strict, {**schema, "required": ["a"]})
    assert "required" not in schema


@pytest.mark.parametrize("schema", [{"type": "object", "additionalProperties": {"type": "string"}}, EXPRESSION])
def test_an_open_map_has_no_strict_form(schema: dict[str, Any]) -> None:
    assert (make_strict(schema) is None) == ("additionalProperties" in schema)

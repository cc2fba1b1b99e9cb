"""Schemas and values of any origin are checked in bounded time: what cannot be bounded is refused or said in one line.

None of these tests takes a clock: without its bound each of them runs for minutes to years.
"""

from typing import Any

import orjson
import pytest

from prompts.errors import PromptInputInvalid, SchemaInvalid
from prompts.includes import find_nothing
from prompts.rendering import render_prompt
from prompts.schemas import compile_schema
from prompts.validation import compile_content
from tests.prompting import text_content

UNTOLD = ["it does not fit the schema"]
A: Any = {"$ref": "#"}


def problems_of(schema: dict[str, Any], value: Any) -> list[str]:
    return compile_schema(schema, param="schema").find_problems(value, orjson.dumps(value))


def nested(levels: int) -> Any:
    value: Any = "leaf"
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"anyOf": [{"properties": {"a": A}, "required": [name]} for name in "xy"]}, id="anyOf"),
        pytest.param(
            {
                "oneOf": [
                    {"type": "object", "properties": {"a": A}, "minProperties": 1},
                    {"type": "object", "properties": {"a": A}, "maxProperties": 3},
                ]
            },
            id="oneOf",
        ),
        pytest.param({"allOf": [{"properties": {"a": A}}, {"additionalProperties": A}]}, id="allOf"),
        pytest.param({"properties": {"a": A}, "patternProperties": {"^a": A}}, id="properties and patterns"),
        pytest.param({"properties": {"a": A}, "dependentSchemas": {"a": {"properties": {"a": A}}}}, id="dependent"),
        pytest.param({"properties": {"a": A}, "if": {"properties": {"a": A}}, "then": False}, id="if"),
        pytest.param(
            {
                "$ref": "#/$defs/n",
                "$defs": {
                    "n": {"anyOf": [{"$ref": "#/$defs/o"}, {"$ref": "#/$defs/p"}]},
                    "o": {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["x"]},
                    "p": {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["y"]},
                },
            },
            id="definitions",
        ),
    ],
)
def test_ways_that_multiply_are_judged_without_the_list_of_what_is_wrong(schema: dict[str, Any]) -> None:
    assert problems_of({"type": "object", **schema}, nested(60)) == UNTOLD


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"anyOf": [A, {"type": "null"}]}}},
        {"type": "object", "properties": {"left": A, "right": A}, "additionalProperties": A},
        {"anyOf": [{"type": "integer"}, {"type": "array", "prefixItems": [A], "items": A}]},
    ],
    ids=["list", "tree", "array"],
)
def test_an_ordinary_recursive_schema_still_says_what_is_wrong(schema: dict[str, Any]) -> None:
    assert not compile_schema(schema, param="schema").weight.is_explosive
    assert problems_of(schema, nested(20)) not in ([], UNTOLD)


def test_unevaluated_properties_do_not_go_with_recursion() -> None:
    schema: dict[str, Any] = {"type": "object", "anyOf": [{"properties": {"a": A}}], "unevaluatedProperties": False}
    with pytest.raises(SchemaInvalid, match="leads back to itself"):
        compile_schema(schema, param="schema")
    assert problems_of({**schema, "anyOf": [{"properties": {"a": {"type": "string"}}}]}, {"b": 1})


def test_references_that_multiply_are_refused() -> None:
    definitions: dict[str, Any] = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(30)}
    with pytest.raises(SchemaInvalid, match="multiply"):
        compile_schema({"$ref": "#/$defs/a0", "$defs": {**definitions, "a30": {}}}, param="schema")


@pytest.mark.parametrize("keyword", ["$anchor", "$dynamicAnchor", "$dynamicRef"])
def test_references_that_cannot_be_measured_are_refused(keyword: str) -> None:
    with pytest.raises(SchemaInvalid, match="not supported"):
        compile_schema({"type": "object", keyword: "#" if keyword == "$dynamicRef" else "node"}, param="schema")


def test_of_a_large_value_the_first_fault_is_told_and_of_a_huge_one_none() -> None:
    schema = {"items": {"required": [str(number) for number in range(2_000)]}}
    assert problems_of(schema, [{"5": 1}] * 1_000) == ['[0]: "0" is a required property']
    assert problems_of({"items": {"type": "string"}}, [1] * 400_000) == UNTOLD


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"enum": [{"a": number} for number in range(4_000)]}}, [{"a": 3_999}] * 50_000),
        ({"patternProperties": {f"a{n}.*b": {} for n in range(50)}}, {f"k{n}": 1 for n in range(120_000)}),
        ({"items": {"multipleOf": 1e-300}}, [1e300] * 50_000),
        ({"allOf": [{"pattern": f"[ab]*a[ab]{{30}}{n}"} for n in range(50)]}, "ab" * 600_000),
    ],
    ids=["enum", "patterns of names", "fractions", "patterns of a text"],
)
def test_a_value_too_large_for_its_schema_is_refused_unchecked(schema: dict[str, Any], value: Any) -> None:
    assert problems_of(schema, value) == ["it is too large to be checked against this schema"]


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"f{number}": {"pattern": r"\p{L}{20}"} for number in range(51)}},
        {"patternProperties": {rf"\p{{L}}{{20}}{number}": {} for number in range(51)}},
    ],
)
def test_more_patterns_than_can_be_compiled_at_once_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaInvalid, match="at most 50 patterns, this one has 51"):
        compile_schema(schema, param="x")


def test_a_megabyte_of_text_fits_a_schema_of_many_fields() -> None:
    schema = {"properties": {f"f{number}": {"type": "string", "minLength": 1} for number in range(200)}}
    assert problems_of(schema, {"f1": "a" * 1_000_000}) == []


def test_a_prompt_with_such_inputs_answers_a_hostile_caller_at_once() -> None:
    alternatives = [{"properties": {"a": {"$ref": "#/$defs/t"}}, "required": [name]} for name in "xyz"]
    term: Any = {"type": "object", "anyOf": alternatives}
    content = text_content(
        "{{ tree }}",
        input_schema={
            "type": "object",
            "properties": {"tree": {"$ref": "#/$defs/t"}},
            "required": ["tree"],
            "$defs": {"t": term},
        },
    )
    compiled = compile_content("mail", content, find_nothing)
    with pytest.raises(PromptInputInvalid, match="does not fit the schema"):
        render_prompt(compiled, {"tree": nested(100)})
    with pytest.raises(PromptInputInvalid, match="nested too deeply"):
        render_prompt(compiled, {"tree": nested(2_000)})

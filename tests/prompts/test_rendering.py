"""Inputs are checked against the schema before anything is filled in, and every bound has its error."""

from dataclasses import replace
from typing import Any

import pytest

from prompts.content import PromptContent
from prompts.errors import (
    PromptInputInvalid,
    PromptInvalid,
    PromptParameterRefused,
    PromptRenderFailed,
    PromptTooLarge,
    SchemaInvalid,
    TemplateInvalid,
)
from prompts.includes import MAX_INCLUDE_DEPTH, IncludedPrompt, find_nothing
from prompts.json_values import JsonObject
from prompts.names import PromptReference
from prompts.rendering import RenderedPrompt, render_prompt
from prompts.samples import sample_inputs
from prompts.validation import CompiledContent, compile_content
from tests.prompting import text_content

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0},
        "tone": {"enum": ["formal", "warm"]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def compiled(content: PromptContent | None = None) -> CompiledContent:
    default = text_content("{{ name }} is {{ age }}.", input_schema=SCHEMA)
    return compile_content("mail", content or default, find_nothing)


def render(inputs: JsonObject, content: PromptContent | None = None, **overrides: Any) -> RenderedPrompt:
    return render_prompt(compiled(content), inputs, overrides=overrides)


def test_a_valid_call_carries_messages_model_and_parameters() -> None:
    content = text_content("Hi {{ name }}", system="Be kind.", model="m", parameters={"temperature": 0.1})
    rendered = render({"name": "Ada"}, content)
    assert rendered.message_dicts() == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi Ada"},
    ]
    assert (rendered.model, rendered.parameters, rendered.output_schema) == ("m", {"temperature": 0.1}, None)


@pytest.mark.parametrize(
    ("inputs", "param"),
    [
        ({}, "inputs"),
        ({"name": "Ada"}, "inputs"),
        ({"name": "Ada", "age": "old"}, "inputs.age"),
        ({"name": "Ada", "age": -1}, "inputs.age"),
        ({"name": "A" * 21, "age": 1}, "inputs.name"),
        ({"name": "Ada", "age": 1, "more": 1}, "inputs"),
        ({"name": "Ada", "age": True}, "inputs.age"),
        ({"name": None, "age": 1}, "inputs.name"),
    ],
)
def test_inputs_that_do_not_fit_are_told_with_their_place(inputs: JsonObject, param: str) -> None:
    with pytest.raises(PromptInputInvalid) as caught:
        render(inputs)
    assert caught.value.param == param
    assert caught.value.details["problems"]


def test_a_megabyte_of_input_is_refused_and_not_sent_back() -> None:
    content = text_content("{{ text }}")
    with pytest.raises(PromptTooLarge):
        render({"text": "x" * 1_000_001}, content)
    with pytest.raises(PromptInputInvalid) as caught:
        render({"name": "x" * 900_000, "age": 1})
    assert len(caught.value.message) < 2_000
    assert len(render({"text": "x" * 900_000}, content).messages[0].content) == 900_000


@pytest.mark.parametrize(
    "test", ["needle in text", "text|upper == 'X'", "(text ~ needle)|length == 3", "(text|replace('b', 'c')) == text"]
)
def test_a_loop_over_a_megabyte_is_stopped_before_it_has_read_it_thousands_of_times(test: str) -> None:
    # With the fuel of small inputs these take minutes.
    content = text_content(f"{{% for i in range(9999) %}}{{% if {test} %}}x{{% endif %}}{{% endfor %}}{{{{ needle }}}}")
    inputs: JsonObject = {"needle": "a" * 200_000 + "b", "text": "a" * 700_000}
    with pytest.raises(PromptRenderFailed, match=r"too many turns|too often"):
        render(inputs, replace(content, input_schema=None))


def test_inputs_nested_without_end_are_refused() -> None:
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(PromptInputInvalid):
        render({"text": deep}, text_content("{{ text }}"))


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "(.*a){25}$"])
def test_a_pattern_matches_in_linear_time(pattern: str) -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": pattern}},
        "required": ["name"],
    }
    with pytest.raises(PromptInputInvalid):
        render({"name": "a" * 5_000 + "!" if "{25}" not in pattern else "b" * 5_000}, text_content(input_schema=schema))


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "("])
def test_a_pattern_that_cannot_be_matched_in_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(SchemaInvalid):
        compiled(
            text_content(
                input_schema={
                    "type": "object",
                    "properties": {"name": {"type": "string", "pattern": pattern}},
                    "required": ["name"],
                }
            )
        )


def test_a_schema_without_end_is_refused() -> None:
    deep: JsonObject = {"type": "string"}
    for _ in range(60):
        deep = {"type": "array", "items": deep}
    with pytest.raises(SchemaInvalid, match="levels"):
        compiled(text_content(input_schema={"type": "object", "properties": {"name": deep}, "required": ["name"]}))


# ---- parameters


def test_callers_set_only_what_the_prompt_opens() -> None:
    content = text_content(parameters={"temperature": 0.1}, allowed_overrides=("temperature", "model"))
    rendered = render({"name": "Ada"}, content, temperature=0.9, model="other")
    assert (rendered.parameters, rendered.model) == ({"temperature": 0.9}, "other")
    with pytest.raises(PromptParameterRefused):
        render({"name": "Ada"}, content, seed=1)
    for wrong in ({"temperature": 3}, {"temperature": "hot"}, {"model": ""}, {"model": 3}):
        with pytest.raises(PromptInvalid):
            render({"name": "Ada"}, content, **wrong)
    assert content.parameters == {"temperature": 0.1}


# ---- includes


def _library(**texts: str) -> Any:
    ids = {name: number for number, name in enumerate(texts)}

    def find(reference: PromptReference) -> IncludedPrompt | None:
        key = reference.name.replace("-", "_")
        if key not in texts:
            return None
        return IncludedPrompt(version_id=ids[key], content=text_content(texts[key]))

    return find


def _with_includes(template: str, **texts: str) -> str:
    found = compile_content("top", text_content(template), _library(**texts))
    return found.messages.render({"name": "Ada"})[0].content


def test_an_include_sees_the_inputs_and_keeps_its_place() -> None:
    template = 'A {%- include "b@1" -%} C {% include "c@production" %}!'
    assert _with_includes(template, b=" <{{ name }}> ", c="{{ name }}\n") == "A <Ada> C Ada!"


def test_an_include_brings_the_authors_literals_with_it() -> None:
    library = _library(b="x")
    part = replace(text_content("irrelevant", system='{{ "polite" if name else "" }}'))

    def find(reference: PromptReference) -> IncludedPrompt | None:
        return IncludedPrompt(version_id=1, content=part) if reference.name == "part" else library(reference)

    content = text_content("Hi {{ name }}", system='{% include "part@1" %}')
    assert compile_content("top", content, find).messages.render({"name": "Ada"})[0].content == "polite"


@pytest.mark.parametrize(
    "texts",
    [
        {"a": '{% include "a@1" %}'},
        {"a": '{% include "b@1" %}', "b": '{% include "a@2" %}'},
        {"a": '{% include "top@1" %}'},
        {"a": '{% include "missing@1" %}'},
        {"a": "{% if 1 %}"},
    ],
)
def test_circles_missing_parts_and_broken_parts_are_refused(texts: dict[str, str]) -> None:
    with pytest.raises(TemplateInvalid):
        _with_includes('{% include "a@1" %}', **texts)


def test_depth_and_size_of_includes_are_bounded() -> None:
    chain = {f"p{n}": f'{{% include "p{n + 1}@1" %}}' for n in range(MAX_INCLUDE_DEPTH + 2)}
    with pytest.raises(TemplateInvalid, match="levels deep"):
        _with_includes('{% include "p0@1" %}', **chain, **{f"p{MAX_INCLUDE_DEPTH + 2}": "end"})
    doubling = {f"d{n}": f'{{% include "d{n + 1}@1" %}}' * 50 for n in range(4)}
    with pytest.raises(TemplateInvalid, match="longer than"):
        _with_includes('{% include "d0@1" %}', **doubling, d4="x" * 1_000)


def test_an_include_stands_for_messages_of_its_own_role() -> None:
    with pytest.raises(TemplateInvalid, match="system message"):
        compile_content("top", text_content(system='{% include "b@1" %}'), _library(b="only a user message"))


# ---- samples


def test_sample_inputs_fit_their_schema() -> None:
    schema: JsonObject = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "minLength": 30},
            "b": {"type": "integer", "minimum": 5},
            "c": {"enum": ["x", "y"]},
            "d": {"type": "array", "items": {"type": "object", "properties": {"e": {"type": "boolean"}}}},
            "f": {"type": "string", "examples": ["shown"]},
            "name": {"type": "string"},
        },
        "required": ["a", "b", "c", "d", "f", "name"],
    }
    inputs = sample_inputs(schema)
    assert inputs["f"] == "shown"
    render(inputs, text_content(input_schema=schema))


def test_a_value_missing_deep_inside_is_told_as_a_failure_of_the_prompt() -> None:
    schema: JsonObject = {"type": "object", "properties": {"name": {"type": "object"}}, "required": ["name"]}
    with pytest.raises(PromptRenderFailed) as caught:
        render({"name": {}}, text_content("{{ name.first }}", input_schema=schema))
    assert caught.value.status == 422

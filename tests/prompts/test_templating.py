"""Templates keep to a language whose work is bounded, and what they need is found out from them."""

import pytest

from prompts.errors import TemplateInvalid
from prompts.templating import MAX_LOOP_TEXT_CHARACTERS, MAX_TAG_CHARACTERS, MAX_TEMPLATE_CHARACTERS, parse_template


@pytest.mark.parametrize(
    "source",
    [
        "plain text with { braces } and } more",
        "{{ name }} {{ name|upper|trim }} {{ a.b.c }} {{ items[0] }} {{ x if y else 'z' }}",
        "{% if a and not b %}x{% elif c is defined %}y{% else %}z{% endif %}",
        "{% for item in items %}{{ loop.index }} {{ item }}{% endfor %}",
        "{% for i in range(3) %}{{ i }}{% endfor %}",
        '{% include "house-style@production" %} {%- include "other@2" -%}',
        "{# a comment with {{ anything }} #}",
        '{{ "a string with }} and %} inside" }}',
        "{{ x is not none }}{{ a == 'b' and (c > 3 or d in e) }}",
    ],
)
def test_what_prompts_need_is_in_the_language(source: str) -> None:
    parse_template(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% set x = x ~ x %}",
        "{% with x = 1 %}{% endwith %}",
        "{% macro m() %}{% endmacro %}",
        "{% call m() %}{% endcall %}",
        "{% import 'a' as a %}",
        "{% extends 'a' %}",
        "{% block a %}{% endblock %}",
        "{% filter upper %}{% endfilter %}",
        "{% raw %}{% endraw %}",
        "{% autoescape false %}{% endautoescape %}",
        "{% for a in b recursive %}{% endfor %}",
        "{{ x() }}",
        "{{ x.append(1) }}",
        "{{ 'a'.upper() }}",
        "{{ (x)(1) }}",
        "{{ x[0](1) }}",
        "{{ namespace() }}",
        "{{ debug() }}",
        "{{ x.__class__ }}",
        "{{ x['__class__'] }}",
        "{{ x * 1000000 }}",
        "{{ 9 ** 9 }}",
        "{{ x|safe }}",
        "{{ x|map('upper') }}",
        "{{ x is filter }}",
        "{{ {'a': x} }}",
        "{% include name %}",
        '{% include "a@1" if x %}',
        '{% include "no-pin" %}',
        '{% include "../../etc/passwd@production" %}',
        "{{ never closed",
        "{% if x }}",
        "{# never closed",
        "{{ }}",
        "{% %}",
    ],
)
def test_everything_else_is_refused(source: str) -> None:
    with pytest.raises(TemplateInvalid):
        parse_template(source)


def test_sizes_are_bounded() -> None:
    for source in (
        "x" * (MAX_TEMPLATE_CHARACTERS + 1),
        "{{ x" + "|upper" * MAX_TAG_CHARACTERS + " }}",
        "{% for i in range(9) %}" + "x" * (MAX_LOOP_TEXT_CHARACTERS + 1) + "{% endfor %}",
    ):
        with pytest.raises(TemplateInvalid, match="at most"):
            parse_template(source)
    parse_template("x" * MAX_TEMPLATE_CHARACTERS)


def test_the_line_of_a_problem_is_named() -> None:
    with pytest.raises(TemplateInvalid, match=r"Line 3: .*set"):
        parse_template("one\ntwo\n{% set x = 1 %}")


def test_includes_literals_and_uses_are_found() -> None:
    found = parse_template(
        "{%- include 'style@2.1.0' -%}{% for a in things %}{{ a }}{% endfor %}"
        "{{ x|default('none') }}{% if y is defined %}{{ y }}{% endif %}{{ 'it\\'s' }}"
    )
    (include,) = found.includes
    assert (str(include.reference), include.trims_before, include.trims_after) == ("style@2.1.0", True, True)
    assert found.iterated == {"things"}
    assert found.optional == {"x", "y"}
    assert {"none", "it's"} <= found.literals

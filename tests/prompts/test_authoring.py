"""Drafts become versions: numbers follow from the change, and a version is whole or not published."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from prompts.authoring import (
    change_prompt,
    create_prompt,
    deprecate_version,
    plan_version,
    restore_version,
    save_draft,
    withdraw_deprecation,
)
from prompts.content import PromptContent, read_content
from prompts.errors import (
    DraftOutdated,
    NothingToPublish,
    PromptExists,
    PromptInvalid,
    PromptNotFound,
    SchemaInvalid,
    TemplateInvalid,
)
from prompts.json_values import JsonObject
from prompts.models import Prompt, PromptDraft, PromptVersion, VersionDeprecation
from prompts.names import ChangeLevel
from tests.prompting import make_prompt, make_released, publish, text_content

pytestmark = pytest.mark.django_db

TWO_INPUTS: JsonObject = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "mood": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
ANSWER: JsonObject = {"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"type": "string"}}}


@pytest.mark.parametrize("name", ["", "Upper", "1st", "a b", "a@b", "a/b", "a..b", "-a", "a" * 81, "a\n"])
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(PromptInvalid):
        create_prompt(name=name, author="ada")


def test_a_name_is_given_once() -> None:
    make_prompt("greeting")
    with pytest.raises(PromptExists):
        create_prompt(name="greeting", author="ada")


def test_the_first_version_is_1_0_0_with_its_derived_inputs() -> None:
    version = publish(make_prompt(content=text_content("Hi {{ name }}, {% for i in items %}{{ i }}{% endfor %}")))
    assert str(version) == "1.0.0"
    schema = read_content(version.content).input_schema
    assert schema == {
        "type": "object",
        "properties": {"items": {"type": "array"}, "name": {"type": "string"}},
        "required": ["items", "name"],
        "additionalProperties": False,
    }


def test_the_order_of_an_output_schema_is_kept() -> None:
    version = publish(make_prompt(content=text_content(output_schema=ANSWER)))
    schema: Any = read_content(PromptVersion.objects.get(pk=version.pk).content).output_schema
    assert list(schema["properties"]) == ["zeta", "alpha"]


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (text_content("Say a warm hello to {{ name }}."), "1.0.1"),
        (text_content(model="another-model"), "1.1.0"),
        (text_content(parameters={"temperature": 0.5}), "1.1.0"),
        (text_content(allowed_overrides=("temperature",)), "1.1.0"),
        (text_content(input_schema=TWO_INPUTS), "1.1.0"),
        (text_content("Hello {{ name }} and {{ friend }}"), "2.0.0"),
        (text_content("Hello {{ other }}"), "2.0.0"),
        (text_content(output_schema=ANSWER), "2.0.0"),
    ],
)
def test_the_number_follows_from_the_change(content: PromptContent, number: str) -> None:
    prompt = make_prompt()
    publish(prompt)
    assert str(publish(prompt, content)) == number


def test_removing_an_optional_input_or_an_override_is_major() -> None:
    prompt = make_prompt(content=text_content(input_schema=TWO_INPUTS, allowed_overrides=("seed",)))
    publish(prompt)
    assert str(publish(prompt, text_content(input_schema=TWO_INPUTS))) == "2.0.0"
    assert str(publish(prompt, text_content())) == "3.0.0"


def test_a_level_can_be_raised_and_not_lowered() -> None:
    prompt = make_prompt()
    publish(prompt)
    assert str(publish(prompt, text_content("Hello {{ name }}"), level=ChangeLevel.MINOR)) == "1.1.0"
    assert str(publish(prompt, text_content("Hi {{ name }}"), level=ChangeLevel.MAJOR)) == "2.0.0"
    with pytest.raises(PromptInvalid, match="needs a major version"):
        publish(prompt, text_content("Hello {{ other }}"), level=ChangeLevel.PATCH)


def test_an_older_major_can_be_mended() -> None:
    prompt = make_prompt()
    first = publish(prompt)
    publish(prompt, text_content("Hello {{ other }}"))
    save_draft(prompt_id=prompt.pk, content=text_content("Hi {{ name }}"), author="ada", based_on_id=first.pk)
    assert str(publish(prompt)) == "1.0.1"
    save_draft(prompt_id=prompt.pk, content=text_content("Hi {{ third }}"), author="ada", based_on_id=first.pk)
    assert str(publish(prompt)) == "3.0.0"


def test_an_unchanged_draft_is_not_published_again() -> None:
    prompt = make_prompt()
    version = publish(prompt)
    with pytest.raises(NothingToPublish):
        publish(prompt)
    publish(prompt, text_content("Hello {{ name }}"))
    restore_version(version_id=version.pk, author="ada")
    assert str(publish(prompt)) == "1.0.2"


def test_two_people_do_not_overwrite_each_other() -> None:
    prompt = make_prompt()
    seen = PromptDraft.objects.get(pk=prompt.pk).revision
    save_draft(prompt_id=prompt.pk, content=text_content("A {{ name }}"), author="ada", expected_revision=seen)
    with pytest.raises(DraftOutdated):
        save_draft(prompt_id=prompt.pk, content=text_content("B {{ name }}"), author="bob", expected_revision=seen)
    assert "A {{ name }}" in PromptDraft.objects.get(pk=prompt.pk).content


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (text_content("{{ name"), TemplateInvalid),
        (text_content("  "), PromptInvalid),
        (text_content("{{ unknown }}", input_schema=TWO_INPUTS), PromptInvalid),
        (text_content("{{ name }} {{ mood }}", input_schema=TWO_INPUTS), PromptInvalid),
        (text_content(input_schema={"type": "string"}), SchemaInvalid),
        (text_content(input_schema={"type": "object", "properties": {"name": {"type": "no-type"}}}), SchemaInvalid),
        (text_content(output_schema={"type": "object", "$ref": "file:///etc/passwd"}), SchemaInvalid),
        (text_content(output_schema={"type": "object", "properties": {"a": {"$ref": "http://x/y"}}}), SchemaInvalid),
        (text_content(output_schema={"type": "array"}), SchemaInvalid),
        (text_content(parameters={"temperature": 9}), PromptInvalid),
        (text_content(parameters={"stream": True}), PromptInvalid),
        (text_content(allowed_overrides=("messages",)), PromptInvalid),
        (text_content('{% include "nowhere@production" %}{{ name }}'), TemplateInvalid),
        (PromptContent(parameters={}), PromptInvalid),
    ],
)
def test_what_could_not_be_served_is_not_published(content: PromptContent, error: type[PromptInvalid]) -> None:
    prompt = make_prompt(content=content)
    with pytest.raises(error):
        publish(prompt)
    assert not PromptVersion.objects.exists()


def test_an_optional_input_may_be_used_where_the_template_asks_for_it() -> None:
    publish(
        make_prompt(
            content=text_content("{{ name }}{% if mood is defined %}{{ mood }}{% endif %}", input_schema=TWO_INPUTS)
        )
    )


def test_a_version_says_who_and_why() -> None:
    prompt = make_prompt()
    with pytest.raises(PromptInvalid):
        publish(prompt, note=" ")
    version = publish(prompt, note="first words")
    assert (version.author, version.note) == ("ada", "first words")


def test_no_way_of_changing_a_published_version_works() -> None:
    version = publish(make_prompt())
    version.note = "changed"
    for change in (
        version.save,
        version.delete,
        lambda: PromptVersion.objects.update(content="{}"),
        lambda: PromptVersion.objects.filter(pk=version.pk)._raw_delete(using="default"),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()
    assert PromptVersion.objects.get().note == "for a test"


def test_a_plan_tells_the_reasons_before_anything_is_published() -> None:
    prompt = make_prompt()
    publish(prompt)
    save_draft(prompt_id=prompt.pk, content=text_content("{{ name }} {{ more }}", model="other"), author="ada")
    plan = plan_version(prompt_id=prompt.pk)
    assert str(plan.number) == "2.0.0"
    assert [reason.level.label for reason in plan.reasons] == ["major", "minor", "patch"]
    assert PromptVersion.objects.count() == 1


def test_a_deprecation_can_be_given_changed_and_withdrawn() -> None:
    version = make_released("old")
    sunset = datetime.now(UTC) + timedelta(days=90)
    deprecate_version(version_id=version.pk, author="ada")
    deprecate_version(version_id=version.pk, author="ada", sunset_at=sunset, note="use 2")
    assert VersionDeprecation.objects.get().sunset_at == sunset
    with pytest.raises(PromptInvalid):
        deprecate_version(version_id=version.pk, author="ada", sunset_at=datetime.now(UTC) - timedelta(days=1))
    withdraw_deprecation(version_id=version.pk)
    assert not VersionDeprecation.objects.exists()


def test_owner_and_tags_can_be_changed_and_an_unknown_prompt_is_told() -> None:
    prompt = make_prompt()
    change_prompt(prompt_id=prompt.pk, owner="team", tags=["mail"])
    assert Prompt.objects.values_list("owner", "tags").get() == ("team", ["mail"])
    with pytest.raises(PromptInvalid):
        change_prompt(prompt_id=prompt.pk, tags=["x" * 41])
    with pytest.raises(PromptNotFound):
        change_prompt(prompt_id=10**9)

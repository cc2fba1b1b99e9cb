"""Prompts survive being written to files and read back; a dry run changes nothing; bad files are told."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from prompts.authoring import save_draft, set_reuse
from prompts.checks import read_checks
from prompts.errors import PromptInvalid
from prompts.files import read_file, write_file
from prompts.models import Prompt, PromptDraft, PromptTestCase, PromptVersion
from prompts.testing import save_test_case
from tests.prompting import make_prompt, text_content

pytestmark = pytest.mark.django_db

TEMPLATE = "Dear {{ name }},\n\n{% if x is defined %}  {{ x }}: '\"{% endif %}\nBye\n"


def command(*arguments: str) -> str:
    output = StringIO()
    call_command("prompts", *arguments, stdout=output)
    return output.getvalue()


def make_full(name: str = "mail") -> Prompt:
    content = text_content(
        TEMPLATE,
        system="Be kind.",
        parameters={"temperature": 0.2, "stop": ["\n\n"]},
        allowed_overrides=("seed",),
        output_schema={"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"type": "number"}}},
    )
    prompt = set_reuse(prompt_id=make_prompt(name, content).pk, seconds=0)
    checks = read_checks([{"kind": "max_cost_usd", "value": "0.002"}])
    save_test_case(prompt_id=prompt.pk, name="cheap", inputs={"name": "Ada"}, checks=checks, author="ada")
    return prompt


def test_what_is_pulled_can_be_pushed_into_an_empty_platform(tmp_path: Path) -> None:
    before = write_file(make_full())
    command("pull", str(tmp_path))
    assert (tmp_path / "mail.prompt.yaml").read_text() == before
    PromptTestCase.objects.all().delete()
    PromptDraft.objects.all().delete()
    Prompt.objects.all().delete()
    command("push", str(tmp_path))
    assert write_file(Prompt.objects.get()) == before
    assert "1 unchanged" in command("push", str(tmp_path))


def test_a_template_stands_in_the_file_as_it_is() -> None:
    text = write_file(make_full())
    assert "template: |" in text
    assert text.index("zeta") < text.index("alpha")


def test_a_dry_run_shows_the_difference_and_changes_nothing(tmp_path: Path) -> None:
    prompt = make_prompt("mail")
    command("pull", str(tmp_path))
    path = tmp_path / "mail.prompt.yaml"
    path.write_text(path.read_text().replace("hello", "goodbye"))
    shown = command("push", str(tmp_path), "--dry-run", "--publish", "--note", "x")
    assert "-  template: Say hello to {{ name }}." in shown
    assert "+  template: Say goodbye to {{ name }}." in shown
    assert "Dry run" in shown
    assert "hello" in PromptDraft.objects.get().content
    assert not PromptVersion.objects.exists()
    command("push", str(tmp_path), "--publish", "--note", "friendlier", "--author", "ci")
    assert PromptVersion.objects.values_list("note", "author").get() == ("friendlier", "ci")
    save_draft(prompt_id=prompt.pk, content=text_content("Other {{ name }}"), author="ada")
    shown = command("pull", str(tmp_path), "mail", "--dry-run")
    assert "+  template: Other {{ name }}" in shown
    assert "goodbye" in path.read_text()


def test_one_bad_file_keeps_all_from_being_pushed(tmp_path: Path) -> None:
    (tmp_path / "good.prompt.yaml").write_text("name: good\nmessages: [{role: user, template: Hi}]\n")
    (tmp_path / "bad.prompt.yaml").write_text("name: bad\nmessage: []\n")
    (tmp_path / "other.prompt.yaml").write_text("name: name\n")
    with pytest.raises(CommandError) as caught:
        command("push", str(tmp_path))
    assert "bad.prompt.yaml: Unknown fields: message" in str(caught.value)
    assert "other.prompt.yaml" in str(caught.value)
    assert not Prompt.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "name: [",
        "name: 3",
        "name: mail\ntags: mail",
        "name: mail\nmessages: text",
        "name: mail\nmessages: [{role: boss, template: x}]",
        "name: mail\nparameters: {when: 2026-11-21}",
        "name: mail\ntests: [{name: a, check: []}]",
        "name: mail\na: &a [x]\nb: *a",
        "name: mail\nmodel: !!python/object/apply:os.system ['true']",
        "name: mail\n" + "[" * 3_000,
        "x" * 1_000_001,
    ],
)
def test_a_file_that_is_wrong_is_told(text: str) -> None:
    with pytest.raises(PromptInvalid):
        read_file(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ("pull", ".", "unknown"),
        ("push", "/nowhere"),
        ("push", ".", "../x"),
        ("push", "."),
        ("push", ".", "--publish"),
    ],
)
def test_a_command_that_cannot_work_says_why(arguments: tuple[str, ...], tmp_path: Path) -> None:
    place = str(tmp_path) if arguments[1] == "." else arguments[1]
    with pytest.raises(CommandError):
        command(arguments[0], place, *arguments[2:])

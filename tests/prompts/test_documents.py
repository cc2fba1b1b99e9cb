"""What the documents show of prompts is what the code takes."""

import re
from pathlib import Path

import pytest

from prompts.content import PromptContent
from prompts.files import read_file
from prompts.includes import IncludedPrompt
from prompts.names import PromptReference
from prompts.rendering import render_prompt
from prompts.validation import compile_content
from tests.prompting import text_content

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def block(path: str, language: str) -> str:
    text = (DOCS / path).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def house_style(reference: PromptReference) -> IncludedPrompt:
    assert str(reference) == "house-style@production"
    return IncludedPrompt(version_id=1, content=text_content("Be kind."))


def test_the_template_of_the_explanation_can_be_filled_in() -> None:
    content: PromptContent = text_content(block("explanation/prompts.md", "jinja"))
    compiled = compile_content("shown", content, house_style)
    rendered = render_prompt(compiled, {"company": "Acme", "orders": ["A-1"], "language": "English"})
    assert rendered.messages[0].content == "You answer mails for Acme.\n- A-1\nAnswer in English.\nBe kind."


@pytest.mark.django_db
def test_the_file_of_the_guide_is_a_whole_prompt() -> None:
    file = read_file(block("how-to/keep-prompts-in-git.md", "yaml"))
    compile_content(file.name, file.content, house_style)
    assert [len(case.checks) for case in file.tests] == [3]

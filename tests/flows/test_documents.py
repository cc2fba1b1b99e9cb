"""What the documents tell readers to type works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.declarations.applying import apply_declarations
from gateway.models import Model
from tests.flows.platform import Platform

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODEL = "smollm2-135m-instruct"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def served(platform: Platform, text: str) -> str:
    return text.replace("http://127.0.0.1:8000", platform.server.root_url)


@pytest.fixture
def key(platform: Platform) -> str:
    if not platform.run(Model.objects.filter(name=MODEL).exists):
        platform.make_model(name=MODEL)
    return platform.make_caller(model=MODEL).token


def test_the_readme_s_curl_line_streams(platform: Platform, key: str) -> None:
    (block,) = [b for b in blocks("sh") if "chat/completions" in b]
    command = served(platform, block[block.index("curl") :]).replace("$TOLLKEEPER_KEY", key)
    arguments = shlex.split(command.replace("\\\n", " "))
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert answer.stdout.rstrip().endswith("data: [DONE]")


def test_the_readme_s_python_prints_answer_and_cost(platform: Platform, key: str) -> None:
    (block,) = blocks("python")
    answer = subprocess.run(
        [sys.executable, "-c", served(platform, block)],
        env={**os.environ, "TOLLKEEPER_KEY": key},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"cost in USD: 0\.\d+", answer.stdout)


@pytest.mark.django_db
def test_the_readme_s_declaration_is_valid() -> None:
    (block,) = blocks("yaml")
    applied = apply_declarations(block, is_dry_run=True, variables={"OPENAI_API_KEY": "sk-test"})
    assert all(change.is_new for change in applied.changes)


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([a-z_]+/[a-z_/.]+)`", text):
        assert (ROOT / name).exists(), name

"""What the documents tell readers to type works."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.declarations.applying import apply_declarations
from gateway.demo_prompt import ensure_demo_prompt
from gateway.models import Model
from tests.flows.platform import Platform
from tests.upstream import Behaviour

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODEL = "smollm2-135m-instruct"
SORTED = '{"topic": "delivery", "is_urgent": true, "summary": "Parcel has not arrived."}'


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


def test_the_guide_s_calls_of_a_prompt_answer(platform: Platform, key: str, tmp_path: Path) -> None:
    platform.run(ensure_demo_prompt, "tests")
    platform.upstream.set_default(Behaviour(text=SORTED), target=MODEL)
    guide = (ROOT / "docs/how-to/call-a-prompt.md").read_text(encoding="utf-8")
    (shell, catalogue, document), (python,) = blocks("sh", guide), blocks("python", guide)
    command = served(platform, shell).replace("$TOLLKEEPER_KEY", key)
    run = subprocess.run(shlex.split(command.replace("\\\n", " ")), capture_output=True, text=True, check=True)
    (shown,) = blocks("json", guide)
    assert json.loads(run.stdout)["output"] == json.loads(shown)["output"]
    assert json.loads(run.stdout).keys() == json.loads(shown).keys()
    listing, detail = (
        json.loads(subprocess.run(shlex.split(line), capture_output=True, text=True, check=True).stdout)
        for line in served(platform, catalogue).replace("$TOLLKEEPER_KEY", key).strip().split("\n")
    )
    # Of other tests there may be more.
    assert "sort-mail" in [prompt["name"] for prompt in listing["data"]]
    command = served(platform, document).replace("$TOLLKEEPER_KEY", key)
    subprocess.run(shlex.split(command), capture_output=True, cwd=tmp_path, check=True)
    operation = json.loads((tmp_path / "tollkeeper.json").read_bytes())["paths"]["/v1/prompts/sort-mail/runs"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["example"] == detail["example"]
    answer = subprocess.run(
        [sys.executable, "-c", served(platform, python)],
        env={**os.environ, "TOLLKEEPER_KEY": key},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == SORTED


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

"""`manage.py docs_reference`: what it writes depends on the code alone, and --check names what differs."""

from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from common.errors import NotFound, all_error_classes
from keys.scopes import Scope
from platform_site import reference
from platform_site.environment import Environment, read_environment
from platform_site.management.commands import docs_reference
from platform_site.reference import ERROR_MODULES, find_outdated, render_reference, write_reference


def test_a_file_that_differs_or_is_missing_is_named_and_written(tmp_path: Path) -> None:
    everything = list(render_reference())
    assert find_outdated(tmp_path) == everything
    assert write_reference(tmp_path) == everything
    assert find_outdated(tmp_path) == []
    changed = Path("docs/reference/scopes.md")
    (tmp_path / changed).write_text("what somebody wrote by hand")
    assert find_outdated(tmp_path) == [changed]
    assert write_reference(tmp_path) == [changed]
    assert write_reference(tmp_path) == []


def test_check_fails_naming_the_files_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        docs_reference, "find_outdated", lambda: [Path(".env.example"), Path("docs/reference/errors.md")]
    )
    monkeypatch.setattr(docs_reference, "write_reference", lambda: pytest.fail("--check must not write"))
    with pytest.raises(CommandError, match=r"\.env\.example, docs/reference/errors\.md") as caught:
        call_command("docs_reference", "--check")
    assert caught.value.returncode == 1
    monkeypatch.setattr(docs_reference, "find_outdated", list)
    call_command("docs_reference", "--check")


def test_the_text_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = render_reference()
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for path, text in texts.items():
        for part in (str(settings.BASE_DIR), str(settings.DATA_DIR), str(Path.home())):
            assert part == "/" or part not in text, f"{path} has {part}"


def test_errors_of_elsewhere_do_not_get_into_the_table() -> None:
    before = render_reference()

    class OnlyOfThisTest(NotFound):
        code = "only_of_this_test"

    assert OnlyOfThisTest in all_error_classes()
    assert render_reference() == before


def test_every_error_of_the_product_is_in_the_table() -> None:
    page = render_reference()[Path("docs/reference/errors.md")]
    for error in all_error_classes():
        if error.__module__.partition(".")[0] in ("common", "keys", "billing", "gateway", "prompts", "platform_site"):
            assert error.__module__ in ERROR_MODULES, f"{error.__module__} is not in ERROR_MODULES"
            assert f"| {error.status} | `{error.code}` |" in page


def test_the_example_of_the_environment_is_its_defaults() -> None:
    lines = render_reference()[Path(".env.example")].splitlines()
    given = dict(line.removeprefix("#").split("=", 1) for line in lines if line.startswith("#") and line[1:2].isupper())
    assert list(given) == [name.upper() for name in Environment.model_fields]
    # Relative, so that it is true on any machine.
    assert given.pop("DATA_DIR") == "./var"
    assert read_environment(given) == read_environment({})


def test_a_bar_in_a_cell_does_not_break_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "Scope", [Scope.CHAT_WRITE])
    monkeypatch.setattr(Scope, "label", "One | two")
    assert "| `chat:write` | one \\| two |" in render_reference()[Path("docs/reference/scopes.md")]
